"""Which pages are sealed, and what they count: read at a start in their place.

One document for each sealed page, a file for every thousand of them. What it says is the
truth: after a crash in the middle of sealing, pages are moved to where it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from dbnode.files import Files
from dbnode.listing import Tally
from dbnode.seals import Layout
from dbnode.tiny import Page

FOLDER: Final = "calls/index"
_TALLIES: Final = "tallies"


class Index:
    """The tallies of sealed pages, durable as soon as they are noted."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self._parts: dict[int, Page] = {}

    def load(self) -> Iterator[tuple[int, Tally]]:
        """Yield each sealed page's number and tally."""
        names = (name.removesuffix(".json") for name in self._files.list(FOLDER))
        for first in sorted(int(name) for name in names if name.isdecimal()):
            part = self._part(self._layout.page_of(first))
            for number, doc in part.all(_TALLIES):
                yield number, Tally(Counter(doc["functions"]), Counter(doc["statuses"]))

    def note(self, number: int, tally: Tally | None) -> None:
        """Say that a page is sealed, with its tally, or (None) that it is not any more."""
        part = self._part(number)
        try:
            if tally is None:
                part.drop(_TALLIES, [number])
            else:
                plain = {"functions": dict(tally.functions), "statuses": dict(tally.statuses)}
                part.put(_TALLIES, {number: plain})
            part.save()
            self._files.settle()
        except OSError:
            part.undo()
            raise
        part.keep()

    def _part(self, number: int) -> Page:
        part = self._layout.part_of(number)
        if part not in self._parts:
            first = self._layout.first_of(part * self._layout.pages)
            self._parts[part] = Page(self._files, f"{FOLDER}/{first:010d}.json")
        return self._parts[part]
