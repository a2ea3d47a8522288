"""Takes an export over into a store that is empty, or that an earlier try began to fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from dbnode.calls import Entry
from dbnode.dump import Line
from dbnode.ledger import Ledger, used
from dbnode.store import Changes, Store
from wire.errors import Conflict
from wire.models import CallRecord, Item

#: Calls, or bytes of what they hold, to a commit.
BATCH: Final = 500
BATCH_BYTES: Final = 8 << 20


def take(store: Store, lines: Iterable[Line]) -> Iterator[int]:
    """Write what the lines of a whole export say; yield the number of calls so far.

    The catalogue and the ledger come last and together: until then the store counts as
    empty, and taking the same export again goes on where a crash cut it off.

    Raises:
        Conflict: the store holds something else.
        StoreUnavailable: it cannot be written.
    """
    if store.catalogue.items or store.ledger.apis:
        raise Conflict(
            "the store is in use: it has runtimes, functions or apis of its own",
            hint="import into a new store, or empty this one by starting it once with "
            "--redeploy fresh",
        )
    items: list[Item] = []
    ledger = Ledger()
    batch: list[CallRecord] = []
    calls = size = 0
    for line in lines:
        if line.call is not None:
            batch.append(line.call)
            size += len(line.params or "") + len(line.call.call.result)
        items += [line.item] if line.item is not None else []
        ledger = line.ledger or ledger
        if len(batch) == BATCH or size >= BATCH_BYTES or (line.end and batch):
            _write(store, batch)
            calls += len(batch)
            batch, size = [], 0
            yield calls
    catalogue = replace(store.catalogue, items=tuple(items))
    _commit(store, Changes(catalogue, used(ledger, store.highest)))


def _write(store: Store, batch: list[CallRecord]) -> None:
    new = {record.call.call_num: Entry(record) for record in batch}
    keys = {entry.key for entry in new.values() if entry.key is not None}
    store.prepare(new.keys(), keys)
    for number, entry in list(new.items()):
        there = store.find(number)
        if there is not None and there.record.rev != entry.record.rev:
            raise Conflict(
                f"the store has another call {number}", hint="import into a new store"
            )
        if there is not None:
            del new[number]
    _commit(store, Changes(entries=new))


def _commit(store: Store, changes: Changes) -> None:
    if changes:
        store.commit(changes)
    if store.is_untidy:
        store.tidy()
