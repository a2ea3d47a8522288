"""Where the file of each page is: in the folder of open pages or in that of sealed ones."""

from __future__ import annotations

from typing import Final

from dbnode.files import Files
from dbnode.seals import Layout

OPEN: Final = "calls/open"
SEALED: Final = "calls/sealed"


class Places:
    """The pages by folder; a page is in one of the two."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self.open: set[int] = set()
        self.sealed: set[int] = set()

    def __repr__(self) -> str:
        return f"<{len(self.open)} open and {len(self.sealed)} sealed pages>"

    def path(self, number: int, *, sealed: bool | None = None) -> str:
        """Return a page's file: where it is, or where it would be."""
        folder = SEALED if (number in self.sealed if sealed is None else sealed) else OPEN
        return f"{folder}/{self._layout.first_of(number):010d}.json"

    def move(self, number: int, *, sealed: bool) -> None:
        """Move a page's file; durable when this returns.

        Raises:
            OSError: the disk refuses; it may have been moved, and it may be tried again.
        """
        source = self.path(number, sealed=not sealed)
        # A try that failed at settling has moved it already.
        if self._files.disk.exists(source):
            self._files.move(source, self.path(number, sealed=sealed))
        # Before it is settled: this is where the file is to be found from now on.
        (self.open if sealed else self.sealed).discard(number)
        (self.sealed if sealed else self.open).add(number)
        self._files.settle()

    def restore(self) -> None:
        """Move each file to where the sets say that it is, after a crash in between."""
        for sealed, folder in ((False, OPEN), (True, SEALED)):
            for number in self.numbers(folder):
                if (number in self.sealed) is not sealed:
                    source = self.path(number, sealed=sealed)
                    self._files.move(source, self.path(number, sealed=not sealed))
        self._files.settle()

    def numbers(self, folder: str) -> list[int]:
        """Return the numbers of the pages whose files are in a folder."""
        names = (name.removesuffix(".json") for name in self._files.list(folder))
        firsts = sorted(int(name) for name in names if name.isdecimal())
        return [self._layout.page_of(first) for first in firsts]
