"""Requests that change nothing, answered from the committed state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from dbnode import catalogue as rules
from dbnode import listing
from dbnode.calls import keyed
from dbnode.store import Store
from wire import errors, records
from wire.models import Model
from wire.releases import PROTOCOL


class Readings:
    """Answers what only reads."""

    def __init__(self, store: Store, version: str) -> None:
        self._store = store
        self._version = version

    def read(self, request: Any) -> Model:
        """Answer one request."""
        return _READERS[type(request)](self, request)

    def ping(self, _: records.Ping) -> Model:
        """Say which store this is."""
        store = self._store
        return records.Pong(
            store=store.name,
            version=self._version,
            epoch=store.catalogue.epoch,
            protocol=PROTOCOL,
        )

    def catalogue(self, request: records.ReadCatalogue) -> Model:
        """Return the changes after the asked one."""
        return rules.read(self._store.catalogue, request)

    def counts(self, _: records.CallCounts) -> Model:
        """Return the number of calls of each function."""
        return records.CallsCounted(counts=self._store.counts())

    def get(self, request: records.GetCall) -> Model:
        """Return one record."""
        entry = self._store.find(request.call_num)
        if entry is None:
            raise errors.UnknownCall(
                f"there is no call {request.call_num}", hint="GET /calls lists them"
            )
        return records.CallGot(record=self._store.whole(entry))

    def find_call(self, request: records.FindCall) -> Model:
        """Return the record that was accepted with a key."""
        key = keyed(request.project, request.idempotency_key)
        number = self._store.find_key(str(key))
        if number is None:
            raise errors.UnknownCall(
                f"no call was accepted with the key {request.idempotency_key!r} of late",
                hint="a key is known for a day",
            )
        return self.get(records.GetCall(call_num=number))

    def list_calls(self, request: records.ListCalls) -> Model:
        """Return a page of public records."""
        page, more = listing.page(request, self._store.scan(request), self._store.whole)
        return records.CallsListed(calls=tuple(each.call for each in page), more=more)

    def unfinished(self, request: records.UnfinishedCalls) -> Model:
        """Return a page of an api's records that have not ended."""
        page, more = listing.page(request, self._store.scan(request), self._store.whole)
        without = tuple(replace(each, logs=None) for each in page)
        return records.CallsUnfinished(records=without, more=more)


_READERS: Final[dict[type[Model], Callable[[Readings, Any], Model]]] = {
    records.Ping: Readings.ping,
    records.ReadCatalogue: Readings.catalogue,
    records.CallCounts: Readings.counts,
    records.GetCall: Readings.get,
    records.FindCall: Readings.find_call,
    records.ListCalls: Readings.list_calls,
    records.UnfinishedCalls: Readings.unfinished,
}
