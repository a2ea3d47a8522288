"""Records on their way to the DB node: the newest of each call, one batch under way.

What is put while a batch is under way collects and becomes the next one (self-clocked). A
record that waits is replaced by a newer one of its call. Bounded in count and bytes: when
it is full no new call is accepted, while the ends of accepted ones still find their place.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BATCH_RECORDS: Final = 1000
#: So many make a batch that waits for no clock: it is put in words, stored and acknowledged
#: within some milliseconds, where a larger one would hold up the calls of that time.
CROWD_RECORDS: Final = 128
#: Well below what one frame may carry, whatever base64 makes of results.
BATCH_BYTES: Final = 8 << 20


@dataclass(slots=True)
class Waiting:
    """The newest revision of one call that is not durable yet."""

    rev: int
    size: int
    #: Since when the call has something that is not durable.
    since: float


class Outbox:
    """Which records have to be written, and which are."""

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._under_way: dict[int, Waiting] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return (
            f"<Outbox {len(self._waiting)} waiting, {len(self._under_way)} under way, "
            f"{self._bytes} B>"
        )

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    def __contains__(self, num: int) -> bool:
        return num in self._waiting or num in self._under_way

    @property
    def is_full(self) -> bool:
        """Return whether new calls have to be refused."""
        return len(self) >= self._max_records or self._bytes >= self._max_bytes

    @property
    def is_half_full(self) -> bool:
        """Return whether half of the bytes that may wait do."""
        return 2 * self._bytes >= self._max_bytes

    @property
    def is_crowded(self) -> bool:
        """Return whether so much waits that nothing is won by collecting more."""
        return len(self._waiting) >= CROWD_RECORDS

    @property
    def is_idle(self) -> bool:
        """Return whether no batch is under way."""
        return not self._under_way

    @property
    def size(self) -> int:
        """Return about how many bytes wait."""
        return self._bytes

    @property
    def oldest(self) -> float | None:
        """Return since when the oldest record waits; None if none does."""
        # Both are in the order of their waiting: a newer revision keeps its record's place.
        first = (next(iter(some.values()), None) for some in (self._under_way, self._waiting))
        return min((waiting.since for waiting in first if waiting), default=None)

    def put(self, num: int, rev: int, size: int, now: float) -> None:
        """A record has changed; ``size`` is about what it takes in memory."""
        before = self._waiting.get(num)
        if before is not None:
            self._bytes -= before.size
        self._waiting[num] = Waiting(rev, size, before.since if before else now)
        self._bytes += size

    def take(self) -> list[tuple[int, int]]:
        """Return the next batch as (callNum, rev), oldest first; empty if none may go."""
        if not self.is_idle:
            return []
        total = 0
        while self._waiting and len(self._under_way) < BATCH_RECORDS and total < BATCH_BYTES:
            num, waiting = self._waiting.popitem(last=False)
            self._under_way[num] = waiting
            total += waiting.size
        return [(num, waiting.rev) for num, waiting in self._under_way.items()]

    def acked(self) -> None:
        """The batch under way is durable."""
        self._bytes -= sum(waiting.size for waiting in self._under_way.values())
        self._under_way.clear()
