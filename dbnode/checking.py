"""Reads everything that a store holds, and says what does not fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dbnode.calls import KEY_KNOWN_MS, Entry, instant_ms
from dbnode.store import Store
from wire.errors import StoreUnavailable
from wire.records import ListCalls

#: More of them say nothing new.
MAX_FAULTS: Final = 100


@dataclass(slots=True)
class Found:
    """What was read so far, and what is wrong with it."""

    calls: int = 0
    unfinished: int = 0
    runtimes: int = 0
    functions: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str) -> None:
        """Note something that is wrong."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(what)


def check(store: Store, now_ms: int) -> Iterator[Found]:
    """Read a store whole; yield the same ``Found`` again and again as it grows."""
    found = Found()
    revisions = _catalogue(store, found)
    counts: Counter[str] = Counter()
    try:
        for entry in store.scan(ListCalls(order="asc", limit=1000)):
            counts[entry.function_key] += 1
            _call(store, entry, found, now_ms)
            key = (entry.function_key, entry.record.call.revision)
            if key not in revisions:
                found.fault(f"call {entry.record.call.call_num} is of {key[0]}, revision "
                            f"{key[1]}, which the catalogue does not know")  # fmt: skip
            yield found
    except StoreUnavailable as error:
        found.fault(error.message)
    else:
        if +counts != store.counts():
            found.fault(f"the calls of functions are counted as {store.counts()}, but there "
                        f"are {dict(counts)}")  # fmt: skip
    yield found


def _catalogue(store: Store, found: Found) -> set[tuple[str, int]]:
    """Check the catalogue; return the revisions of functions that it knows."""
    living: dict[str, bool] = {}
    revisions = set()
    for place, item in enumerate(store.catalogue.items, 1):
        if item.seq != place:
            found.fault(f"change {place} of the catalogue has the number {item.seq}")
        if item.runtime is not None:
            living[f"runtime {item.runtime.project}/{item.runtime.name}"] = not item.deleted
        if item.function is not None:
            name = f"{item.function.project}/{item.function.function_name}"
            living[f"function {name}"] = not item.deleted
            revisions.add((name, item.function.revision))
    there = Counter(name.partition(" ")[0] for name, lives in living.items() if lives)
    found.runtimes, found.functions = there["runtime"], there["function"]
    return revisions


def _call(store: Store, entry: Entry, found: Found, now_ms: int) -> None:
    call = entry.record.call
    found.calls += 1
    found.unfinished += not call.status.is_terminal
    if call.call_num >= store.ledger.next_call:
        found.fault(f"call {call.call_num} has a number that was not leased yet")
    try:
        store.whole(entry)
    except StoreUnavailable as error:
        found.fault(f"call {call.call_num}: {error.message}")
    accepted_ms = instant_ms(call.accepted_at) or 0
    is_young = accepted_ms > now_ms - KEY_KNOWN_MS
    if entry.key is not None and is_young and store.find_key(entry.key) != call.call_num:
        found.fault(f"call {call.call_num} is not found by its Idempotency-Key")
