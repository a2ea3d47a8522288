"""Which calls a listing holds, and where it stops: pure, over any store's records.

A tally counts the calls of a stretch of numbers, so that a listing need not read a stretch
that holds nothing it wants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from dbnode.calls import Entry
from wire.models import CallRecord
from wire.records import ListCalls, UnfinishedCalls

#: An answer is one frame; what it holds beyond the first record stays below this.
MAX_ANSWER_BYTES: Final = 16 << 20
_OPEN: Final = ("PENDING", "RUNNING")

Whole = Callable[[Entry], CallRecord]
Query = ListCalls | UnfinishedCalls


@dataclass(slots=True)
class Tally:
    """How many calls there are: by ``project/function``, and by status."""

    functions: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Return the number of calls."""
        return self.statuses.total()

    @property
    def unfinished(self) -> int:
        """Return the number of calls that have not ended."""
        return sum(self.statuses[status] for status in _OPEN)

    def copy(self) -> Tally:
        """Return a tally that may change while this one stays."""
        return Tally(self.functions.copy(), self.statuses.copy())

    def put(self, before: Entry | None, after: Entry) -> None:
        """Count a record that is new or takes the place of another."""
        if before is not None:
            self.drop(before)
        self.functions[after.function_key] += 1
        self.statuses[str(after.record.call.status)] += 1

    def drop(self, entry: Entry) -> None:
        """Count a record no more."""
        _less(self.functions, entry.function_key)
        _less(self.statuses, entry.record.call.status)


def _less(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def is_descending(query: Query) -> bool:
    """Return whether a listing goes from the newest call to the oldest."""
    return isinstance(query, ListCalls) and query.order == "desc"


def is_wanted(query: Query, entry: Entry) -> bool:
    """Return whether a listing holds this record."""
    call = entry.record.call
    if isinstance(query, UnfinishedCalls):
        return entry.record.api == query.api and not call.status.is_terminal
    if query.status is not None and call.status is not query.status:
        return False
    return query.function is None or query.function in (call.func_name, entry.function_key)


def may_hold(query: Query, tally: Tally) -> bool:
    """Return whether a stretch with this tally may hold a record that the listing does."""
    if isinstance(query, UnfinishedCalls):
        return tally.unfinished > 0
    if query.status is not None and not tally.statuses[str(query.status)]:
        return False
    name = query.function
    if name is None:
        return True
    return any(name in (key, key.partition("/")[2]) for key in tally.functions)


def page(query: Query, entries: Iterable[Entry], whole: Whole) -> tuple[list[CallRecord], bool]:
    """Return the records of one answer, read whole, and whether there are more."""
    found: list[CallRecord] = []
    room = MAX_ANSWER_BYTES
    for entry in entries:
        if not is_wanted(query, entry):
            continue
        if len(found) == query.limit:
            return found, True
        record = whole(entry)
        room -= len(bytes(record.call.params)) + len(record.call.result)
        if found and room < 0:
            return found, True
        found.append(record)
    return found, False


def beyond(numbers: list[int], after: int | None, *, descending: bool) -> list[int]:
    """Return those of sorted numbers that a listing shows after one it has shown."""
    if descending:
        return [number for number in reversed(numbers) if after is None or number < after]
    return [number for number in numbers if after is None or number > after]
