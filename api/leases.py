"""Call numbers: leased in blocks from the DB node, given out one by one.

A block is 16 numbers and grows fourfold, to 1,024, as long as one is used up within a second,
so that a burst does not wait for the store at every sixteenth call and a quiet api skips few.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FIRST_COUNT: Final = 16
MAX_COUNT: Final = 1024
FAST_S: Final = 1.0


class Leases:
    """The numbers that this api may give to calls."""

    def __init__(self) -> None:
        self._blocks: deque[range] = deque()
        self._count = FIRST_COUNT
        self._leased_at = 0.0
        self._asked = False

    def __repr__(self) -> str:
        return f"<Leases {self.left} left, next block {self._count}>"

    @property
    def left(self) -> int:
        """Return how many numbers can be given out."""
        return sum(len(block) for block in self._blocks)

    @property
    def runs_low(self) -> bool:
        """Return whether another block is to be asked for soon."""
        return not self._asked and self.left <= self._count // 4

    def take(self) -> int | None:
        """Return the next number; None when a new block has to come first."""
        if not self._blocks:
            return None
        block = self._blocks.popleft()
        if len(block) > 1:
            self._blocks.appendleft(block[1:])
        return block[0]

    def wanted(self, now: float) -> int | None:
        """Return how many numbers to lease now; None while enough are left or asked for."""
        if not self.runs_low:
            return None
        if self._leased_at:
            fast = now - self._leased_at < FAST_S
            self._count = min(MAX_COUNT, self._count * 4) if fast else FIRST_COUNT
        self._asked = True
        return self._count

    def add(self, first: int, count: int, now: float) -> None:
        """A block was leased."""
        self._blocks.append(range(first, first + count))
        self._leased_at = now
        self._asked = False

    def failed(self) -> None:
        """The block that was asked for did not come: it may be asked for again."""
        self._asked = False

    def tails(self) -> list[tuple[int, int]]:
        """Return what is left as (first, count), the newest block first, to be given back."""
        left = [(block[0], len(block)) for block in reversed(self._blocks)]
        self._blocks.clear()
        return left
