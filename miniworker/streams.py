"""What a container prints, as the engine sends it: cut apart, and kept in bounded memory.

Pure. The engine puts stdout and stderr on one connection, each piece behind a header of eight
bytes: which stream, three zeros, the length.
"""

from __future__ import annotations

import struct
from typing import Final

from wire.errors import ProtocolError

STDOUT: Final = 1
STDERR: Final = 2
_HEADER: Final = struct.Struct(">BxxxI")


class Kept:
    """One stream: all of it up to a limit, beyond that its head and tail alone."""

    def __init__(self, most: int, head: int, tail: int) -> None:
        self.total = 0
        self._most = max(most, head + tail)
        self._head = head
        self._tail = tail
        self._data = bytearray()
        self._end = bytearray()

    def __repr__(self) -> str:
        return f"<Kept {len(self._data) + len(self._end)} of {self.total} bytes>"

    @property
    def is_whole(self) -> bool:
        """Return whether nothing was left out yet."""
        return self.total <= self._most

    def take(self, data: bytes) -> None:
        """Take the next bytes."""
        was_whole = self.is_whole
        self.total += len(data)
        if self.is_whole:
            self._data += data
            return
        if was_whole:
            self._data += data
            self._end = self._data[self._head :]
            del self._data[self._head :]
        else:
            self._end += data
        del self._end[: max(0, len(self._end) - self._tail)]

    def whole(self) -> bytes:
        """Return everything; only while ``is_whole``."""
        return bytes(self._data)

    def cut(self) -> bytes:
        """Return head and tail, or everything if it is no more than these."""
        if not self.is_whole:
            return bytes(self._data + self._end)
        if len(self._data) <= self._head + self._tail:
            return bytes(self._data)
        return bytes(self._data[: self._head] + self._data[-self._tail :])


class Pieces:
    """The engine's connection cut apart, however its pieces arrive."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._is_out = True

    def __repr__(self) -> str:
        return f"<Pieces: {self._left} bytes to come>"

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what these bytes hold of stdout, and of stderr.

        Raises:
            ProtocolError: the engine sends something else.
        """
        streams: tuple[list[bytes], list[bytes]] = [], []
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                streams[0 if self._is_out else 1].append(bytes(piece))
                continue
            missing = _HEADER.size - len(self._header)
            self._header, view = self._header + bytes(view[:missing]), view[missing:]
            if len(self._header) == _HEADER.size:
                self._begin()
        return b"".join(streams[0]), b"".join(streams[1])

    def _begin(self) -> None:
        which, self._left = _HEADER.unpack(self._header)
        self._header = b""
        if which not in (STDOUT, STDERR):
            raise ProtocolError(f"the engine sent a piece of stream {which}")
        self._is_out = which == STDOUT


class Streams:
    """Both streams of one container."""

    def __init__(self, result: int, head: int, tail: int) -> None:
        self.out = Kept(result, head, tail)
        self.err = Kept(0, head, tail)
        self._pieces = Pieces()

    def __repr__(self) -> str:
        return f"<Streams {self.out!r}, {self.err!r}>"

    def take(self, data: bytes) -> None:
        """Take what was read from the connection, however it is cut.

        Raises:
            ProtocolError: the engine sends something else.
        """
        self.hear(*self._pieces.take(data))

    def hear(self, out: bytes, err: bytes) -> None:
        """Take what was printed on each."""
        self.out.take(out)
        self.err.take(err)

    def logs(self) -> tuple[bytes, bytes, int]:
        """Return what is kept of both for the log, and how many bytes are left out."""
        out, err = self.out.cut(), self.err.cut()
        return out, err, self.out.total + self.err.total - len(out) - len(err)
