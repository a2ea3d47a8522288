"""What two rooms must agree on: models, messages, codec, sockets, liveness, errors.

This package imports no room. Everything that passes between two processes of skep is
defined here once, in the order of ``docs/protocol.md``.
"""
