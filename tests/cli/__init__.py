"""The command line, its supervisor and the client."""
