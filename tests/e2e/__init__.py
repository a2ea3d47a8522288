"""Everything together, as a user has it: real processes, curl itself."""
