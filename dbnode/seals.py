"""Where a call's page is, and when a page may be put away: pure arithmetic.

A sealed page is read no more at a start, only when somebody asks for one of its calls. A
write to it opens it again, so sealing early is never wrong, only dear.
"""

from __future__ import annotations

from typing import Final

from dbnode.listing import Tally

#: Calls to a page: what one commit writes is bounded by it.
PAGE: Final = 1000
#: Calls to a part of the index.
MILLION: Final = 1_000_000
#: A page this far behind the newest gets no new calls but by chance (gaps between leases).
_BEHIND: Final = 2


def page_of(call_num: int) -> int:
    """Return the number of the page that a call is on."""
    return (call_num - 1) // PAGE


def first_of(page: int) -> int:
    """Return the first call of a page."""
    return page * PAGE + 1


def is_ripe(tally: Tally, page: int, newest: int) -> bool:
    """Return whether a page may be sealed: all has ended, and no more is to come."""
    is_complete = tally.count == PAGE or page <= newest - _BEHIND
    return is_complete and tally.count > 0 and not tally.unfinished
