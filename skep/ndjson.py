"""An answer of JSON lines, whose pieces end anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NDJSON: Final = "application/x-ndjson"


class Lines:
    """Puts pieces together to lines; an empty piece says that the answer begins, anew."""

    def __init__(self, begin: Callable[[], object], line: Callable[[bytes], object]) -> None:
        self._begin = begin
        self._line = line
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """Take the next bytes of the answer."""
        if not piece:
            self._rest = b""
            self._begin()
        if b"\n" not in piece:
            self._rest += piece
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._line(line)
