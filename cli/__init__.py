"""The command line: ``skep up`` and ``skep demo`` run an installation, the rest is a client.

It starts the other rooms as processes and speaks HTTP through ``skep``; it imports none of
them, knows no message of the wire, and stores nothing.
"""
