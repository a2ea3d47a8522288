"""Which results of a session may be forgotten by its worker: a cumulative number.

Results become durable in any order; RECORDED n says that all up to n are.
"""

from __future__ import annotations


class Receipts:
    """The results of one session that are durable, without a gap."""

    def __init__(self) -> None:
        self.upto = 0
        self._done: set[int] = set()

    def __repr__(self) -> str:
        return f"<Receipts up to {self.upto}, {len(self._done)} beyond>"

    def done(self, number: int) -> int | None:
        """Result ``number`` is durable: return the new cumulative number, if it rose."""
        if number <= self.upto:
            return None
        self._done.add(number)
        before = self.upto
        while self.upto + 1 in self._done:
            self.upto += 1
            self._done.remove(self.upto)
        return self.upto if self.upto > before else None
