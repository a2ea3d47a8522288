"""Calls that wait for a credit: in order for each function, in turn between functions.

Bounded in calls and in bytes of params; taking one out of the middle (cancel, maxWait) costs
the same however many wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque


class Backlog:
    """The queued calls of every key."""

    def __init__(self, *, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._queues: OrderedDict[str, OrderedDict[int, int]] = OrderedDict()
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
        queue = self._queues.setdefault(key, OrderedDict())
        if num in queue:
            return
        queue[num] = size
        if front:
            queue.move_to_end(num, last=False)
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
        return next(iter(queue)) if queue else None

    def served(self, key: str) -> None:
        """The key had its turn: the others come first now."""
        if key in self._queues:
            self._queues.move_to_end(key)

    def turns(self) -> deque[str]:
        """Return the keys in the order of their turns."""
        return deque(self._queues)
