"""The calls of one function that wait for a credit, in the order of their dispatch: pure."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Container


class Line:
    """The calls of one key, with the bytes of each: those that came back before the rest.

    Both parts are in the order of acceptance, in whatever order calls come back.
    """

    def __init__(self) -> None:
        self._fresh: OrderedDict[int, int] = OrderedDict()
        self._back: dict[int, int] = {}
        #: Of ``_back``, and of calls taken out of it since.
        self._heap: list[int] = []
        #: Calls whose params are in the store alone, with the bytes of those.
        self._away: dict[int, int] = {}
        #: Of ``_away``, and of calls that are there no more.
        self._away_heap: list[int] = []

    def __repr__(self) -> str:
        return f"<Line of {len(self._back)} and {len(self._fresh)} calls, {self.away} away>"

    def __len__(self) -> int:
        return len(self._fresh) + len(self._back)

    def __contains__(self, num: int) -> bool:
        return num in self._fresh or num in self._back

    def push(self, num: int, size: int, *, front: bool) -> None:
        """Add a call."""
        if front:
            self._back[num] = size
            heapq.heappush(self._heap, num)
        else:
            self._fresh[num] = size

    def pop(self, num: int) -> int:
        """Take a call out and return the bytes that it held."""
        self._away.pop(num, None)
        return self._part(num).pop(num)

    def size(self, num: int) -> int:
        """Return the bytes that a call holds."""
        return self._part(num)[num]

    def head(self) -> int | None:
        """Return the call whose turn it is."""
        while self._heap and self._heap[0] not in self._back:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else next(iter(self._fresh), None)

    # --- params that are in the store alone ---

    @property
    def away(self) -> int:
        """Return how many calls have their params in the store alone."""
        return len(self._away)

    def is_away(self, num: int) -> bool:
        """Return whether this call's are."""
        return num in self._away

    def away_size(self, num: int) -> int:
        """Return the bytes of params that are in the store alone."""
        return self._away[num]

    def leave(self, num: int) -> int:
        """The params of a call leave memory: return the bytes that they held."""
        part = self._part(num)
        size, part[num] = part[num], 0
        self._away[num] = size
        heapq.heappush(self._away_heap, num)
        return size

    def come(self, num: int) -> int:
        """They are back: return the bytes that they hold."""
        size = self._part(num)[num] = self._away.pop(num)
        return size

    def next_away(self, reading: Container[int]) -> int | None:
        """Return the call to be read next that is not being read."""
        passed = []
        while (first := self._first_away()) is not None and first in reading:
            passed.append(heapq.heappop(self._away_heap))
        for num in passed:
            heapq.heappush(self._away_heap, num)
        return first

    def _first_away(self) -> int | None:
        # Numbers are the order of acceptance, and so of dispatch: those that came back are
        # the older ones.
        while self._away_heap and self._away_heap[0] not in self._away:
            heapq.heappop(self._away_heap)
        return self._away_heap[0] if self._away_heap else None

    def _part(self, num: int) -> dict[int, int]:
        return self._fresh if num in self._fresh else self._back
