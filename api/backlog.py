"""Calls that wait for a credit: in order for each function, in turn between functions.

Bounded in calls and in bytes of params; taking one out of the middle (cancel, maxWait) costs
the same however many wait.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque


class Line:
    """The calls of one key, with the bytes of each: those that came back before the rest.

    Both parts are in the order of acceptance, in whatever order calls come back.
    """

    def __init__(self) -> None:
        self._fresh: OrderedDict[int, int] = OrderedDict()
        self._back: dict[int, int] = {}
        #: Of ``_back``, and of calls taken out of it since.
        self._heap: list[int] = []

    def __repr__(self) -> str:
        return f"<Line of {len(self._back)} and {len(self._fresh)} calls>"

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
        """Take a call out and return its size."""
        part = self._fresh if num in self._fresh else self._back
        return part.pop(num)

    def head(self) -> int | None:
        """Return the call whose turn it is."""
        while self._heap and self._heap[0] not in self._back:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else next(iter(self._fresh), None)


class Backlog:
    """The queued calls of every key."""

    def __init__(self, *, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._queues: OrderedDict[str, Line] = OrderedDict()
        self._count = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Backlog {self._count} calls of {len(self._queues)} keys, {self._bytes} B>"

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Return the bytes of all params that wait."""
        return self._bytes

    def lengths(self) -> list[tuple[str, int]]:
        """Return how many calls of each key wait."""
        return [(key, len(queue)) for key, queue in self._queues.items()]

    def has(self, key: str) -> bool:
        """Return whether calls of this key wait."""
        return key in self._queues

    def has_room(self, size: int) -> bool:
        """Return whether one more call with params of this size may be accepted."""
        return self._count < self._max_calls and self._bytes + size <= self._max_bytes

    def push(self, key: str, num: int, size: int, *, front: bool = False) -> None:
        """Queue a call; ``front`` for one that had its turn and came back."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Line()
        if num in queue:
            return
        queue.push(num, size, front=front)
        self._count += 1
        self._bytes += size

    def remove(self, key: str, num: int) -> None:
        """Take a call out, wherever it stands; unknown ones are fine."""
        queue = self._queues.get(key)
        if queue is None or num not in queue:
            return
        self._bytes -= queue.pop(num)
        self._count -= 1
        if not queue:
            del self._queues[key]

    def head(self, key: str) -> int | None:
        """Return the call of this key whose turn it is."""
        queue = self._queues.get(key)
        return queue.head() if queue is not None else None

    def served(self, key: str) -> None:
        """The key had its turn: the others come first now."""
        if key in self._queues:
            self._queues.move_to_end(key)

    def turns(self) -> deque[str]:
        """Return the keys in the order of their turns."""
        return deque(self._queues)
