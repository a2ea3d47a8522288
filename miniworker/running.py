"""One container of an image function while it runs: what it reads, prints, and ends as."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from miniworker import agent, image_options
from miniworker.cgroups import Kills
from miniworker.streams import Streams

READ_BYTES: Final = 256 << 10
#: What the engine's runtime prints, in the container's name, of a program that it found and
#: the kernel does not run: it is for another machine, or its interpreter is not there.
_EXEC: Final = b"exec "
_NOT_RUN: Final = {
    b"exec format error": "it is no program for this machine",
    b"no such file or directory": "the image lacks what its first line, or its loader, names",
}
#: With these statuses.
_NOT_BEGUN: Final = (1, 126, 127, 255)


class Running:
    """A container, known by the serial of its call."""

    def __init__(
        self, serial: int, container: str, limits: agent.Limits, params: bytes
    ) -> None:
        self.serial = serial
        self.id = container
        self.kills: Kills | None = None
        self.was_killed = False
        self.was_oom = False
        #: Nothing more will come from it, and, after that: its end was told.
        self.is_silent = False
        self.is_told = False
        self._streams = Streams(limits.result, limits.head, limits.tail)
        self._input = memoryview(params)
        self._connection: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<Running {self.id[:12]}, {self._streams!r}>"

    @property
    def is_connected(self) -> bool:
        """Return whether its streams are connected."""
        return self._connection is not None

    def connect(self, connection: socket.socket) -> None:
        """Take the connection to its three streams."""
        connection.setblocking(False)
        self._connection = connection

    def fileno(self) -> int:
        """Return the descriptor of its streams."""
        return self._connected().fileno()

    def feed(self) -> bool:
        """Give what it reads as far as that goes; return whether that was all."""
        connection = self._connected()
        try:
            while self._input:
                self._input = self._input[connection.send(self._input) :]
        except BlockingIOError:
            return False
        except OSError:
            # It does not read any more: nobody has to.
            return True
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return True

    def take(self) -> bool:
        """Take a piece of what it printed; return whether more may come.

        Raises:
            ProtocolError: the engine sends what is no output.
        """
        try:
            data = self._connected().recv(READ_BYTES)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        # Asked while there is a cgroup: it goes with the container.
        self.was_oom = self.was_oom or bool(self.kills and self.kills.have_risen())
        self._streams.take(data)
        return bool(data)

    def end(self, exit_code: int, limit: int) -> tuple[agent.FromAgent, bytes]:
        """Return how the call ended, with what is kept of its output."""
        self.is_told = True
        out, err, omitted = self._streams.logs()
        if self.was_killed:
            exit_ = agent.Exit(
                attempt=self.serial, began=True, sizes=(len(out), len(err)), omitted=omitted
            )
            return exit_, out + err
        code, message = self._verdict(exit_code, err, limit)
        result = b"" if code else self._streams.out.whole()
        ended = agent.Result(
            attempt=self.serial,
            status="FAILED" if code else "DONE",
            code=code,
            message=message,
            sizes=(len(result), len(out), len(err)),
            omitted=omitted,
        )
        return ended, result + out + err

    def close(self) -> None:
        """Read no more."""
        if self._connection is not None:
            self._connection.close()
        if self.kills is not None:
            self.kills.close()

    def _verdict(
        self, exit_code: int, err: bytes, limit: int
    ) -> tuple[image_options.Code, str]:
        said = err.strip()
        if exit_code in _NOT_BEGUN and said.startswith(_EXEC):
            for words, why in _NOT_RUN.items():
                if said.endswith(words):
                    return "command_not_found", f"{why}: {said.decode(errors='replace')[-500:]}"
        out = self._streams.out
        return image_options.verdict(exit_code, out.total, limit, is_whole=out.is_whole)

    def _connected(self) -> socket.socket:
        if self._connection is None:
            raise EOFError("the container was never connected")
        return self._connection
