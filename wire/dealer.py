"""The one socket of a process without an asyncio loop: to one peer, and nothing around it.

Making one of pyzmq's own contexts and sockets writes to a quarter of a megabyte that a forked
process would share otherwise (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq
import zmq.backend

from wire.codec import Payload
from wire.sockets import configure, has_message, receive, send


class Dealer:
    """A DEALER and the context that it is alone in; nothing but ``close`` ends them."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.backend.Context(1)
        self._socket = zmq.backend.Socket(self._context, zmq.DEALER)
        try:
            configure(self._socket, zmq.DEALER)
            self._socket.connect(endpoint)
            #: Readable when there may be a message; only ``has_message`` says whether there is.
            self.fd = int(self._socket.get(zmq.FD))
        except BaseException:
            self.close(0)
            raise

    def __repr__(self) -> str:
        return f"<Dealer {self.fd}>"

    @property
    def has_message(self) -> bool:
        """Return whether a message waits; if not, the descriptor will say when one does."""
        return has_message(self._socket)

    def receive(self, frames: int) -> list[bytes] | None:
        """Return the message that waits, None if it had another number of frames."""
        return receive(self._socket, frames)

    def send(self, frames: Sequence[Payload]) -> None:
        """Send a message whole: its queue is unbounded, so this never waits."""
        send(self._socket, frames)

    def close(self, linger_ms: int) -> None:
        """Close it once what was sent has left, or after so long."""
        self._socket.close(linger_ms)
        self._context.term()
