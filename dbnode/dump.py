r"""A store as lines of JSON: what ``skep db export`` writes and ``skep db import`` reads.

    {"begin": {"format": 1, "release": "0.1.0", "store": "tinydb", "epoch": "…"}}
    {"call": {"call": {…}, "rev": 3, …}, "params": "{\"roll\":\"4d6\"}"}   one for each call
    {"item": {"seq": 1, "runtime": {…}}}                           the catalogue's changes
    {"ledger": {"apis": {…}, "nextCall": 1025}}
    {"end": {"calls": 1, "items": 1, "digest": "…"}}               BLAKE2b of all before it

Params are text: parsed and written again, numbers and double keys would not be the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from dbnode.ledger import Ledger
from dbnode.store import Store
from wire.errors import BadRequest
from wire.models import CallRecord, Item, Model
from wire.records import ListCalls

FORMAT: Final = 1
_NO_PARAMS: Final = msgspec.Raw(b"{}")
_HINT: Final = "export the store anew, or look for a whole copy of the file"


class Begin(Model, frozen=True, kw_only=True):
    """What was exported, by which release."""

    format: int
    release: str
    store: str
    epoch: str


class End(Model, frozen=True, kw_only=True):
    """How much there must be, and the digest of every line before this one."""

    calls: int
    items: int
    digest: str


class Line(Model, frozen=True, kw_only=True, omit_defaults=True):
    """One line: one of these, and a call with its params."""

    begin: Begin | None = None
    call: CallRecord | None = None
    params: str | None = None
    item: Item | None = None
    ledger: Ledger | None = None
    end: End | None = None


@dataclass(slots=True)
class Tally:
    """What has been written or read so far."""

    calls: int = 0
    items: int = 0
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, line: bytes) -> None:
        """Take a line into the digest."""
        self._digest.update(line)

    def end(self) -> End:
        """Return the line that must come now."""
        return End(calls=self.calls, items=self.items, digest=self._digest.hexdigest())


def written(store: Store, release: str) -> Iterator[tuple[bytes, Tally]]:
    """Yield the lines of a store, each with its newline, and what that makes so far.

    Raises:
        StoreUnavailable: something of it cannot be read.
    """
    tally = Tally()
    for line in _lines(store, release):
        data = msgspec.json.encode(line) + b"\n"
        tally.add(data)
        tally.calls += line.call is not None
        tally.items += line.item is not None
        yield data, tally
    yield msgspec.json.encode(Line(end=tally.end())) + b"\n", tally


def _lines(store: Store, release: str) -> Iterator[Line]:
    epoch = store.catalogue.epoch
    yield Line(begin=Begin(format=FORMAT, release=release, store=store.name, epoch=epoch))
    for entry in store.scan(ListCalls(order="asc", limit=1000)):
        record = store.whole(entry)
        params = bytes(record.call.params).decode()
        call = replace(record.call, params=_NO_PARAMS)
        yield Line(call=replace(record, call=call), params=params)
    for item in store.catalogue.items:
        yield Line(item=item)
    yield Line(ledger=store.ledger)


def read(lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield what the lines say; the last is the end, and only if all before it is whole.

    Raises:
        BadRequest: this is no export, or not all of one.
    """
    tally = Tally()
    line = Line()
    for number, data in enumerate(lines, 1):
        if line.end is not None:
            raise BadRequest(f"line {number} comes after the export's end", hint=_HINT)
        line = _decoded(data, number)
        if (number == 1) is (line.begin is None):
            raise BadRequest("this is no export of a skep store", hint=_HINT)
        if line.end is not None and line.end != tally.end():
            raise BadRequest("the export is damaged: its digest is another", hint=_HINT)
        tally.add(data)
        tally.calls += line.call is not None
        tally.items += line.item is not None
        yield line
    if line.end is None:
        raise BadRequest("the export is cut off: its end is missing", hint=_HINT)


def _decoded(data: bytes, number: int) -> Line:
    try:
        line = msgspec.json.decode(data, type=Line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"line {number} is not of an export: {error}", hint=_HINT) from error
    if line.begin is not None and line.begin.format != FORMAT:
        raise BadRequest(
            f"the export has format {line.begin.format}, this release knows {FORMAT}",
            hint=f"import it with release {line.begin.release} or a newer one",
        )
    if line.call is None:
        return line
    params = msgspec.Raw((line.params or "{}").encode())
    call = replace(line.call.call, params=params)
    return replace(line, call=replace(line.call, call=call))
