"""Calls that wait for a credit: in order for each function, in turn between functions.

Bounded in calls, and in the bytes of params that they hold in memory. What is over that is
left in the store, the call that came last first, and read again in the order of dispatch;
what the store does not have yet stays. Taking a call out of the middle (cancel, maxWait)
costs the same however many wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from api.line import Line

#: Params up to so many bytes always stay: to read them again would cost more than they do.
SMALL_BYTES: Final = 256
#: How many calls may be read at a time.
MAX_READS: Final = 32
#: Params are read ahead while no more than this part of the memory for them is in use: else
#: what was just read would have to go again for the next call that comes.
_AHEAD: Final = 0.75


class Backlog:
    """The queued calls of every key."""

    def __init__(self, *, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._queues: OrderedDict[str, Line] = OrderedDict()
        self._count = 0
        self._bytes = 0
        #: Calls whose params may leave memory, in the order of their coming, with their keys.
        self._loose: OrderedDict[int, str] = OrderedDict()
        #: Of calls whose params may not: the bytes.
        self._held = 0
        #: Keys with calls whose params are in the store alone, in the order of their turns.
        self._keys_away: OrderedDict[str, None] = OrderedDict()
        #: Calls whose params are being read, with the bytes of those.
        self._reading: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Backlog {self._count} calls of {len(self._queues)} keys, {self._bytes} B>"

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Return the bytes of all params that wait in memory."""
        return self._bytes

    @property
    def away(self) -> int:
        """Return how many calls have their params in the store alone."""
        return sum(self._queues[key].away for key in self._keys_away)

    def lengths(self) -> list[tuple[str, int]]:
        """Return how many calls of each key wait."""
        return [(key, len(queue)) for key, queue in self._queues.items()]

    def has(self, key: str) -> bool:
        """Return whether calls of this key wait."""
        return key in self._queues

    def waits(self, key: str, num: int) -> bool:
        """Return whether this call waits."""
        queue = self._queues.get(key)
        return queue is not None and num in queue

    def has_room(self, size: int, *, stays: bool = False) -> bool:
        """Return whether one more call with params of this size may be accepted.

        ``stays``: the store will not have it while it waits, so its params cannot leave.
        """
        fits = not stays or self._held + size <= self._max_bytes
        return fits and self._count < self._max_calls

    def push(
        self, key: str, num: int, size: int, *, front: bool = False, stored: bool = False
    ) -> None:
        """Queue a call; ``front`` for one that had its turn and came back.

        ``stored``: the store has its params, which may leave memory.
        """
        if self._add(key, num, size, front=front) and stored:
            self.loosen(key, num)

    def push_away(self, key: str, num: int, size: int, *, front: bool = False) -> None:
        """Queue a call whose params, of this size, are in the store alone."""
        if self._add(key, num, size, front=front):
            self._held -= size
            self._leave(key, num)

    def _add(self, key: str, num: int, size: int, *, front: bool) -> bool:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Line()
        if num in queue:
            return False
        queue.push(num, size, front=front)
        self._count += 1
        self._bytes += size
        self._held += size
        return True

    def loosen(self, key: str, num: int) -> None:
        """The store has the params of a call that waits: they may leave memory now."""
        queue = self._queues.get(key)
        if queue is None or num not in queue or num in self._loose or queue.is_away(num):
            return
        size = queue.size(num)
        if size > SMALL_BYTES:
            self._held -= size
            self._loose[num] = key

    def overflow(self) -> list[int]:
        """Return the calls whose params have to leave memory, and count them as gone.

        What came last goes first. The first of each key stays, or functions that take turns
        would push each other out before either got its slot; up to twice the memory.
        """
        gone: list[int] = []
        heads: list[int] = []
        left = self._bytes
        for num, key in reversed(self._loose.items()):
            if left <= self._max_bytes:
                break
            queue = self._queues[key]
            if queue.head() == num:
                heads.append(num)
            else:
                gone.append(num)
                left -= queue.size(num)
        for num in heads:
            if left <= 2 * self._max_bytes:
                break
            gone.append(num)
            left -= self._queues[self._loose[num]].size(num)
        for num in gone:
            self._leave(self._loose.pop(num), num)
        return gone

    def _leave(self, key: str, num: int) -> None:
        self._bytes -= self._queues[key].leave(num)
        self._keys_away[key] = None

    def has_away(self, key: str) -> bool:
        """Return whether calls of this key have their params in the store alone."""
        return key in self._keys_away

    def is_away(self, key: str, num: int) -> bool:
        """Return whether those of this call are."""
        queue = self._queues.get(key)
        return queue is not None and queue.is_away(num)

    def read_head(self, key: str) -> int | None:
        """Return the first call of a key if its params are to be read now, as its turn is.

        Its turn has come, so it is read whatever room there is. None: that is done already.
        """
        head = self.head(key)
        if head is None or not self.is_away(key, head) or head in self._reading:
            return None
        self._reading[head] = self._queues[key].away_size(head)
        return head

    def read_ahead(self) -> list[int]:
        """Return calls whose params are to be read while there is room, of each key in turn."""
        found: list[int] = []
        room = int(self._max_bytes * _AHEAD) - self._bytes - sum(self._reading.values())
        turns = deque(self._keys_away)
        while turns and len(self._reading) < MAX_READS:
            key = turns.popleft()
            queue = self._queues[key]
            num = queue.next_away(self._reading)
            if num is None:
                continue
            size = queue.away_size(num)
            if size > room:
                break
            room -= size
            self._reading[num] = size
            self._keys_away.move_to_end(key)
            turns.append(key)
            found.append(num)
        return found

    def came(self, key: str, num: int) -> None:
        """The params of a call were read."""
        self._reading.pop(num, None)
        queue = self._queues.get(key)
        if queue is None or not queue.is_away(num):
            return
        size = queue.come(num)
        if not queue.away:
            del self._keys_away[key]
        self._bytes += size
        self._held += size
        self.loosen(key, num)

    def remove(self, key: str, num: int) -> None:
        """Take a call out, wherever it stands; unknown ones are fine."""
        self._reading.pop(num, None)
        queue = self._queues.get(key)
        if queue is None or num not in queue:
            return
        size = queue.pop(num)
        self._bytes -= size
        if self._loose.pop(num, None) is None:
            # Of one that is away this is nothing.
            self._held -= size
        self._count -= 1
        if not queue.away:
            self._keys_away.pop(key, None)
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
