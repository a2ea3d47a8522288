"""One connection to an agent, without ever waiting: frames out of it, bytes queued into it."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from miniworker import agent
from miniworker.sandbox import Connection

READ_BYTES: Final = 256 << 10
#: A larger body is not copied to be behind its header.
JOINED_BYTES: Final = 16 << 10
#: More than a connection holds of what a process wrote before it ended.
LAST_READS: Final = 8


class Channel:
    """A connection that never waits and speaks in frames."""

    def __init__(self, connection: Connection, limits: agent.Limits) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._reader = agent.FrameReader(limits)
        #: What is left to send of frames, in order.
        self._out: deque[memoryview] = deque()

    def __repr__(self) -> str:
        return f"<Channel {self.fileno()}, {sum(map(len, self._out))} bytes to send>"

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    @property
    def has_more_to_send(self) -> bool:
        """Return whether bytes wait until the agent reads."""
        return bool(self._out)

    def send(
        self, message: agent.ToAgent, body: bytes = b"", descriptors: Sequence[int] = ()
    ) -> None:
        """Queue a frame and send what goes; a descriptor travels with the first byte."""
        joined, apart = (body, b"") if len(body) <= JOINED_BYTES else (b"", body)
        self._out.append(memoryview(agent.encode_head(message, body) + joined))
        if apart:
            self._out.append(memoryview(apart))
        if descriptors and isinstance(self._socket, socket.socket):
            sent = socket.send_fds(self._socket, [self._out[0]], list(descriptors))
            self._has_gone(sent)
        self.flush()

    def flush(self) -> None:
        """Send what goes now. A dead agent shows when reading, not here."""
        try:
            while self._out:
                self._has_gone(self._socket.send(self._out[0]))
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    def _has_gone(self, sent: int) -> None:
        first = self._out.popleft()
        if sent < len(first):
            self._out.appendleft(first[sent:])

    def read(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return the frames that have come.

        Raises:
            EOFError: the agent has closed the connection.
            ProtocolError: what came is no frame.
        """
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except ConnectionError as error:
            raise EOFError(str(error)) from error
        if not data:
            raise EOFError("the agent has closed the connection")
        return self._reader.feed(data)

    def read_last(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return the whole frames that came before the agent ended, or broke off.

        Raises:
            ProtocolError: what came is no frame.
        """
        frames: list[tuple[agent.FromAgent, bytes]] = []
        with contextlib.suppress(EOFError):
            for _ in range(LAST_READS):
                frames += self.read()
        return frames

    def close(self) -> None:
        """Close the connection: an agent that lives takes it as the order to end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
