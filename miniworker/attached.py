"""The standard streams of a container as one connection: what its agent says, and hears.

The engine sends what is printed in pieces, each behind a header of eight bytes that says of
which stream it is. What comes on stdout is the agent's; of stderr, where a first process
complains that cannot run, the end is kept.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from miniworker.streams import Pieces
from wire.errors import ProtocolError

#: Of what was complained.
KEPT_BYTES: Final = 4 << 10


class Attached:
    """What an engine attached, with the manners of a socket that does not wait."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._pieces = Pieces()
        self._complaint = b""

    def __repr__(self) -> str:
        return f"<Attached {self._socket.fileno()}>"

    def last_words(self) -> str:
        """Return the end of what was printed to stderr, once the container has ended."""
        with contextlib.suppress(OSError, ProtocolError):
            while self.recv(KEPT_BYTES):
                pass
        return self._complaint.decode(errors="replace").strip()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Refuse to wait: a piece of stderr would be no answer."""
        if flag:
            raise ValueError("it never waits")

    def send(self, data: bytes | memoryview) -> int:
        """Send what goes now."""
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        """Return what the agent said; empty at the end.

        Raises:
            BlockingIOError: it said nothing.
            ProtocolError: the engine sends something else.
        """
        while data := self._socket.recv(size):
            out, err = self._pieces.take(data)
            self._complaint = (self._complaint + err)[-KEPT_BYTES:]
            if out:
                return out
        return b""

    def shutdown(self, how: int) -> None:
        """Tell the other side that nothing more comes."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close it: the engine ends the agent's stdin."""
        with contextlib.suppress(OSError):
            self._socket.close()
