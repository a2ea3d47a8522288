"""Where a call's page is, and when a page may be put away: pure arithmetic.

A sealed page is read no more at a start, only when somebody asks for one of its calls. A
write to it opens it again, so sealing early is never wrong, only dear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbnode.listing import Tally

#: A page this far behind the newest gets no new calls but by chance (gaps between leases).
_BEHIND: Final = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """How calls are cut into pages, and pages into parts of the index."""

    #: Calls to a page: what one commit writes is bounded by it. Fixed for a store's life.
    calls: int = 1000
    #: Pages to a part of the index.
    pages: int = 1000

    def page_of(self, call_num: int) -> int:
        """Return the number of the page that a call is on."""
        return (call_num - 1) // self.calls

    def first_of(self, page: int) -> int:
        """Return the first call of a page."""
        return page * self.calls + 1

    def part_of(self, page: int) -> int:
        """Return the number of the index's part that tells of a page."""
        return page // self.pages

    def is_ripe(self, tally: Tally, page: int, newest: int) -> bool:
        """Return whether a page may be sealed: all has ended, and no more is to come."""
        is_complete = tally.count == self.calls or page <= newest - _BEHIND
        return is_complete and tally.count > 0 and not tally.unfinished
