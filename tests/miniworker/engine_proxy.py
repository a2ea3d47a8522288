"""A door before the engine's socket that a test can close, or break at a certain request."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from miniworker.engine import default_address

BYTES = 64 << 10


def _whole(data: bytes, source: socket.socket) -> bytes:
    """Return a request with all of its body, which may come apart from its head."""
    said = re.search(rb"\r\ncontent-length: (\d+)\r\n", data, re.IGNORECASE)
    size = int(said[1]) if said else 0
    while len(data.partition(b"\r\n\r\n")[2]) < size:
        data += source.recv(BYTES)
    return data


class EngineProxy:
    """Carries bytes both ways; ``refuse`` closes the door, ``cut_at`` breaks one request.

    ``late`` keeps some requests back, whoever asked for them, until others have come.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = 0
        self._engine = default_address().removeprefix("unix://")
        self._open = True
        self._cut = b""
        self._unheard = False
        self._gate = threading.Event()
        self._gate.set()
        self._late = self._until = b""
        self._wanted = 0
        self._come = threading.Event()
        #: Whether a request is kept back, or was.
        self.has_kept = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate.set()
        self._come.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(5)

    @property
    def address(self) -> str:
        """Return where it listens, as DOCKER_HOST has it."""
        return f"unix://{self.path}"

    @property
    def connected(self) -> bool:
        """Return whether anybody has come."""
        return bool(self._sockets)

    def refuse(self) -> None:
        """Be away: end what is connected, and all that comes."""
        self._open = False
        self._hang_up()

    def admit(self) -> None:
        """Be there again."""
        self._open = True

    def cut_at(self, words: bytes, *, unheard: bool = False) -> None:
        """Be away from the first request on that has these words in its first line.

        ``unheard``: the engine still gets that one, but what it answers is lost.
        """
        self._cut, self._unheard = words, unheard

    def hold(self) -> None:
        """Be slow: let nothing pass."""
        self._gate.clear()

    def release(self) -> None:
        """Let pass what was held."""
        self._gate.set()

    def late(self, words: bytes, until: bytes, times: int) -> None:
        """Keep requests with ``words`` back until so many with ``until`` have come from now."""
        self._late, self._until, self._wanted = words, until, times

    def come(self) -> None:
        """Let pass what was kept back."""
        self._come.set()

    def _kept(self, first: bytes, data: bytes, source: socket.socket) -> bytes:
        if self._until and self._until in first:
            self._wanted -= 1
            if self._wanted <= 0:
                self._come.set()
        if self._late and self._late in first:
            data = _whole(data, source)
            self.has_kept = True
            self._come.wait()
        return data

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                self.refused += 1
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(self._engine)
            self._sockets += [client, server]
            self._run(self._carry, client, server, True)
            self._run(self._carry, server, client, False)

    def _carry(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        try:
            while data := source.recv(BYTES):
                self._gate.wait()
                if not self._open:
                    break
                first = data.split(b"\r\n", 1)[0] if asks else b""
                data = self._kept(first, data, source)
                if self._cut and self._cut in first:
                    self._open = False
                    if self._unheard:
                        target.sendall(_whole(data, source))
                        # Until it has answered: then it has done what it was asked.
                        target.recv(1, socket.MSG_PEEK)
                    break
                target.sendall(data)
            else:
                # Who says no more may still listen.
                target.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _hang_up(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
