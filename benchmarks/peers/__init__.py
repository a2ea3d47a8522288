"""Other systems, each measured by a script that runs in their own environment."""
