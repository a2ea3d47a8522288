"""What the changes of one batch come to, decided one after another on the committed state."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from dbnode import calls, catalogue, ledger
from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.store import Changes, Store
from wire import records
from wire.models import Function, Model, Runtime

R = TypeVar("R", Runtime, Function)


class Draft:
    """The state as the changes of one batch leave it, one after another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalogue = store.catalogue
        self._ledger = store.ledger
        self._entries: dict[int, Entry] = {}
        #: Whose an Idempotency-Key is after this batch; None: nobody's any more.
        self._claims: dict[str, int | None] = {}

    def changes(self) -> Changes:
        """Return what differs from the committed state."""
        old, new = self._store.ledger, self._ledger
        changed = self._catalogue is not self._store.catalogue
        return Changes(
            self._catalogue if changed else None,
            new if new is not old else None,
            self._entries,
        )

    def change(self, request: Any) -> Model:
        """Decide one request; what raises has changed nothing."""
        return _CHANGERS[type(request)](self, request)

    def open_api(self, request: records.OpenApi) -> Model:
        """Give an api that starts its epoch."""
        self._ledger, answer = ledger.open_api(self._ledger, request.api)
        return answer

    def lease(self, request: records.LeaseCalls) -> Model:
        """Reserve call numbers."""
        self._ledger, answer = ledger.lease(self._ledger, request)
        return answer

    def give_back(self, request: records.ReturnCalls) -> Model:
        """Take unused numbers back."""
        highest = max(self._store.highest, *self._entries, 0)
        self._ledger, answer = ledger.give_back(self._ledger, request, highest)
        return answer

    def register_runtime(self, request: records.RegisterRuntime) -> Model:
        """Store a runtime."""
        new = _identified(request.runtime)
        return self._catalogued(catalogue.register_runtime(self._catalogue, new))

    def register_function(self, request: records.RegisterFunction) -> Model:
        """Store a function."""
        new = _identified(request.function)
        return self._catalogued(catalogue.register_function(self._catalogue, new))

    def delete_runtime(self, request: records.DeleteRuntime) -> Model:
        """Remove a runtime."""
        return self._catalogued(catalogue.delete_runtime(self._catalogue, request))

    def delete_function(self, request: records.DeleteFunction) -> Model:
        """Remove a function."""
        return self._catalogued(catalogue.delete_function(self._catalogue, request))

    def write(self, request: records.WriteCalls) -> Model:
        """Store records, each if it is newer."""
        calls.check(request)
        fenced = ledger.fence(self._ledger, request.api, request.epoch)
        entries: dict[int, Entry] = {}
        claims: dict[str, int | None] = {}
        acks: list[tuple[int, int]] = []
        for record in request.records:
            number = record.call.call_num
            stored = entries.get(number) or self._find(number)
            merged = calls.merge(stored, replace(record, epoch=request.epoch))
            if merged is not None:
                entries[number] = merged
                self._claim(claims, stored, merged)
            acks.append((number, record.rev))
        self._entries |= entries
        self._claims |= claims
        self._ledger = ledger.used(fenced, max(entries, default=0))
        return records.CallsWritten(acks=tuple(acks))

    def _claim(self, claims: dict[str, int | None], before: Entry | None, after: Entry) -> None:
        """Note whose a key is; a key that another call has is refused."""
        if before is not None and before.key not in (None, after.key):
            claims[str(before.key)] = None
        if after.key is None:
            return
        for known in (claims, self._claims):
            if after.key in known:
                calls.check_key(after, known[after.key])
                break
        else:
            calls.check_key(after, self._store.find_key(after.key))
        claims[after.key] = after.record.call.call_num

    def _find(self, number: int) -> Entry | None:
        return self._entries.get(number) or self._store.find(number)

    def _catalogued(self, change: tuple[Catalogue, records.Changed]) -> Model:
        self._catalogue, answer = change
        return answer


def needed(batch: Iterable[object]) -> tuple[set[int], set[str]]:
    """Return the calls and the keys that deciding a batch will look at."""
    writes = (each for each in batch if isinstance(each, records.WriteCalls))
    written = [record for write in writes for record in write.records]
    keys = (Entry(record).key for record in written)
    return {record.call.call_num for record in written}, {key for key in keys if key}


def _identified(new: R) -> R:
    """Give what comes without an id one; an api sends its own."""
    return new if new.id else replace(new, id=str(uuid.uuid4()))


_CHANGERS: Final[dict[type[Model], Callable[[Draft, Any], Model]]] = {
    records.OpenApi: Draft.open_api,
    records.RegisterRuntime: Draft.register_runtime,
    records.RegisterFunction: Draft.register_function,
    records.DeleteRuntime: Draft.delete_runtime,
    records.DeleteFunction: Draft.delete_function,
    records.LeaseCalls: Draft.lease,
    records.ReturnCalls: Draft.give_back,
    records.WriteCalls: Draft.write,
}
#: Requests that change something; all others only read.
CHANGES: Final = tuple(_CHANGERS)
