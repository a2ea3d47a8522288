"""The Python client: its decisions, its faults on real sockets, and a real skep."""
