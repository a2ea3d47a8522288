"""Which finished calls are kept: pure.

A call goes when one of the limits no longer keeps it. One that has not ended never goes, nor
one whose Idempotency-Key is promised to be known still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dbnode.calls import KEY_KNOWN_MS, Entry, instant_ms

#: One look removes no more calls, and looks at no more: a batch may be waiting.
STEP: Final = 1000
LOOK: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look came to."""

    gone: frozenset[int] = frozenset()
    #: The next look begins after this call; 0: from the oldest on.
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many calls are kept, and for how long after they ended; None is no limit."""

    keep_calls: int | None = None
    keep_for_ms: int | None = None

    def __bool__(self) -> bool:
        return self.keep_calls is not None or self.keep_for_ms is not None

    def look(self, oldest_first: Iterable[Entry], total: int, now_ms: int) -> Look:
        """Choose from stored calls (``total`` in all) those that go."""
        excess = 0 if self.keep_calls is None else total - self.keep_calls
        gone: set[int] = set()
        for looked, entry in enumerate(oldest_first, 1):
            call = entry.record.call
            is_over = len(gone) < excess
            if not is_over and not self._is_old(call.accepted_at, now_ms):
                break  # the ones after it are younger
            if (is_over or self._is_old(call.finished_at, now_ms)) and _may_go(entry, now_ms):
                gone.add(call.call_num)
            if len(gone) == STEP or looked == LOOK:
                return Look(gone=frozenset(gone), place=call.call_num)
        return Look(gone=frozenset(gone))

    def _is_old(self, at: str | None, now_ms: int) -> bool:
        return self.keep_for_ms is not None and _is_before(at, now_ms - self.keep_for_ms)


def _may_go(entry: Entry, now_ms: int) -> bool:
    call = entry.record.call
    if not call.status.is_terminal:
        return False
    return entry.key is None or _is_before(call.accepted_at, now_ms - KEY_KNOWN_MS)


def _is_before(at: str | None, limit_ms: int) -> bool:
    """Return whether a point in time lies before; what is none does not."""
    at_ms = instant_ms(at)
    return at_ms is not None and at_ms < limit_ms
