"""One call of a server while it is under way: its connection, its answer, its logs."""

from __future__ import annotations

import socket
from typing import Final

from miniworker import agent
from miniworker.exchange import Answer, Exchange
from miniworker.streams import Streams

READ_BYTES: Final = 256 << 10
REFUSED: Final = "nothing listens on its port any more"


class Asked:
    """A request, known by the serial of its call."""

    def __init__(
        self, serial: int, connection: socket.socket, exchange: Exchange, streams: Streams
    ) -> None:
        self.serial = serial
        #: What the container prints until it is told.
        self.streams = streams
        #: Once it has ended: when that may be told.
        self.due = 0.0
        self._connection = connection
        self._exchange = exchange
        self._unsent = memoryview(exchange.request)
        self._end: tuple[agent.Result, bytes] | None = None
        connection.setblocking(False)

    def __repr__(self) -> str:
        return f"<Asked {self.serial}, {self._exchange!r}>"

    @property
    def has_more_to_send(self) -> bool:
        """Return whether it waits to be writable."""
        return bool(self._unsent)

    def connect(self, address: tuple[str, int]) -> None:
        """Begin to connect; whether that fails, ``advance`` says."""
        self._connection.connect_ex(address)

    def fileno(self) -> int:
        """Return the descriptor of its connection."""
        return self._connection.fileno()

    def advance(self) -> Answer | None:
        """Send and read what goes now; return the answer once it is there.

        Raises:
            EOFError: it will not come.
            ProtocolError: it is none.
        """
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except ConnectionRefusedError as error:
            raise EOFError(REFUSED) from error
        except OSError:
            # It reads no more, and may have said why.
            self._unsent = memoryview(b"")
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError(f"the connection broke: {error.strerror}") from error
        return self._exchange.take(data)

    def ended(self, result: agent.Result, body: bytes) -> None:
        """Note how it ended."""
        self._end = result, body

    def told(self) -> tuple[agent.FromAgent, bytes]:
        """Return how it ended, with what was printed meanwhile; killed, if nobody noted how."""
        out, err, omitted = self.streams.logs()
        if self._end is None:
            exit_ = agent.Exit(
                attempt=self.serial, began=True, sizes=(len(out), len(err)), omitted=omitted
            )
            return exit_, out + err
        end, body = self._end
        whole = agent.Result(
            attempt=end.attempt,
            status=end.status,
            code=end.code,
            message=end.message,
            result_type=end.result_type,
            sizes=(len(body), len(out), len(err)),
            omitted=omitted,
        )
        return whole, body + out + err

    def close(self) -> None:
        """Break the connection off, if it is not at its end."""
        self._connection.close()
