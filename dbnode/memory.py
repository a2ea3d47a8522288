"""A store that forgets everything when it ends: for tests and trials."""

from __future__ import annotations

import bisect
import uuid
from collections.abc import Collection, Iterator

from dbnode import listing
from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.ledger import Ledger
from dbnode.listing import Query, Tally
from dbnode.store import Changes
from wire.models import CallRecord


class MemoryStore:
    """All in memory; ``commit`` cannot fail."""

    name = "memory"
    is_untidy = False
    syncs = None

    def __init__(self) -> None:
        self._catalogue = Catalogue(epoch=uuid.uuid4().hex)
        self._ledger = Ledger()
        self._entries: dict[int, Entry] = {}
        self._numbers: list[int] = []
        self._tally = Tally()
        self._keys: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} calls>"

    @property
    def catalogue(self) -> Catalogue:
        """The committed catalogue."""
        return self._catalogue

    @property
    def ledger(self) -> Ledger:
        """The committed epochs and leases."""
        return self._ledger

    @property
    def highest(self) -> int:
        """The highest callNum recorded; 0 if there is none."""
        return self._numbers[-1] if self._numbers else 0

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""
        return dict(self._tally.functions)

    def find(self, call_num: int) -> Entry | None:
        """Return a call's record; nothing of it is held elsewhere."""
        return self._entries.get(call_num)

    def find_key(self, key: str) -> int | None:
        """Return the number of the call with this key."""
        return self._keys.get(key)

    def whole(self, entry: Entry) -> CallRecord:
        """Return the record."""
        return entry.record

    def scan(self, query: Query) -> Iterator[Entry]:
        """Yield entries in the order of a listing, beyond its ``after``."""
        if not listing.may_hold(query, self._tally):
            return
        down = listing.is_descending(query)
        for number in _beyond(self._numbers, query.after, descending=down):
            yield self._entries[number]

    def prepare(self, numbers: Collection[int], keys: Collection[str]) -> None:
        """Do nothing: all is at hand."""

    def commit(self, changes: Changes) -> None:
        """Take a batch over."""
        self._catalogue = changes.catalogue or self._catalogue
        self._ledger = changes.ledger or self._ledger
        for number, entry in changes.entries.items():
            before = self._entries.get(number)
            if before is None:
                bisect.insort(self._numbers, number)
            self._tally.put(before, entry)
            if before is not None and before.key is not None:
                self._keys.pop(before.key, None)
            if entry.key is not None:
                self._keys[entry.key] = number
            self._entries[number] = entry
        for number in changes.gone:
            self._drop(number)

    def _drop(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._numbers.remove(number)
        self._tally.drop(entry)
        if entry.key is not None:
            self._keys.pop(entry.key, None)

    def tidy(self) -> None:
        """Do nothing: there is nothing to make cheaper."""

    def pages(self) -> tuple[int, int]:
        """Return none: there are no pages."""
        return 0, 0

    def file_sizes(self) -> dict[str, int]:
        """Return none: there are no files."""
        return {}

    def close(self) -> None:
        """Do nothing: there are no files."""


def _beyond(numbers: list[int], after: int | None, *, descending: bool) -> Iterator[int]:
    if descending:
        end = len(numbers) if after is None else bisect.bisect_left(numbers, after)
        return (numbers[index] for index in range(end - 1, -1, -1))
    start = 0 if after is None else bisect.bisect_right(numbers, after)
    return (numbers[index] for index in range(start, len(numbers)))
