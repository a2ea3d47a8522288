"""A DB node in virtual time: the rules of records, and a disk that takes a moment."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from dbnode.calls import Entry, merge
from tests.virtual.timeline import Timeline
from wire.models import CallRecord

#: What a question is answered with when its asker wrote in the name of an earlier epoch.
STALE: Final = None
Acks = tuple[tuple[int, int], ...]


class Store:
    """Committed records outlive it; what was not committed when it dies is gone."""

    def __init__(self, timeline: Timeline, dice: Random, delay_s: float = 0.002) -> None:
        self.entries: dict[int, Entry] = {}
        self.epoch = 0
        self.commits = 0
        self._timeline = timeline
        self._dice = dice
        self._delay_s = delay_s
        self._life = 1
        self._back_at = 0.0

    def __repr__(self) -> str:
        return f"<Store of {len(self.entries)} calls, epoch {self.epoch}>"

    def open(self) -> int:
        """Return the epoch of a new life of the api: earlier ones may write no more."""
        self.epoch += 1
        return self.epoch

    def die(self, back_s: float) -> None:
        """End now, and be back in so many seconds."""
        self._life += 1
        self._back_at = self._timeline.now + back_s

    def find(self, num: int) -> CallRecord | None:
        """Return the record of a call."""
        entry = self.entries.get(num)
        return entry.record if entry is not None else None

    def unfinished(self) -> list[CallRecord]:
        """Return the records without an end."""
        records = (entry.record for _, entry in sorted(self.entries.items()))
        return [record for record in records if not record.call.status.is_terminal]

    def write(
        self, epoch: int, records: tuple[CallRecord, ...], told: Callable[[Acks | None], object]
    ) -> None:
        """Commit records; ``told`` hears which, or None if the answer is lost.

        What is lost may have been committed: whoever asked asks again.
        """
        life = self._life
        took_s = self._delay_s * (0.5 + self._dice.random())

        def commit() -> None:
            if epoch < self.epoch:
                return
            if life != self._life and self._dice.random() < 0.5:
                self._timeline.after(0.5, lambda: told(STALE))
                return
            acks = tuple(self._commit(record) for record in records)
            self.commits += 1
            self._timeline.after(
                took_s / 2, lambda: told(acks if life == self._life else STALE)
            )

        if self._timeline.now < self._back_at:
            self._timeline.at(self._back_at, lambda: told(STALE))
        else:
            self._timeline.after(took_s, commit)

    def _commit(self, record: CallRecord) -> tuple[int, int]:
        num = record.call.call_num
        merged = merge(self.entries.get(num), record)
        if merged is not None:
            self.entries[num] = merged
        return num, record.rev
