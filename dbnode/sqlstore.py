"""The store in a SQL database: SQLite in a file, or a PostgreSQL server.

What is small (catalogue, ledger, counts) is kept in memory as it was committed; of the calls,
what a batch will look at is read at once before it is decided. This process alone writes: a
lock says so, and each write says once more in its own words what it may replace. After any
failure everything is read anew, for a commit whose answer was lost may have happened.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec

from dbnode import rows
from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.ledger import Ledger, used
from dbnode.listing import Query
from dbnode.rows import Doc, Ref
from dbnode.sql import Database
from dbnode.staging import Staging
from dbnode.store import Changes
from dbnode.tables import ABOUT, CALLS, COUNTS, ITEMS, PIECES
from wire.errors import Conflict, StoreUnavailable
from wire.models import CallRecord, Item

#: What a change of the tables raises.
SCHEMA: Final = 1
#: A server that is away is looked for this often, in seconds.
AGAIN_S: Final = 1.0


class SqlStore:
    """Runtimes, functions and calls in tables whose names begin with ``skep_``."""

    is_untidy = False
    syncs = None

    def __init__(
        self,
        database: Database,
        sizes: Callable[[], dict[str, int]] = dict,
        *,
        fresh: bool = False,
    ) -> None:
        self._database = database
        self._sizes = sizes
        #: Documents (None: there is none) and holders of keys that a batch will ask for.
        self._seen: dict[int, Doc | None] = {}
        self._holders: dict[str, int | None] = {}
        #: When a database that could not be reached is tried again, and why it could not.
        self._again = 0.0
        self._why: StoreUnavailable | None = None
        try:
            database.open()
            if fresh or not database.has_store():
                self._make()
            self._load()
        except BaseException:
            database.close()
            raise

    def __repr__(self) -> str:
        return f"<SqlStore {self._database!r}>"

    @property
    def name(self) -> str:
        """The kind of the database."""
        return self._database.name

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
        return self._highest

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""
        return dict(self._counts)

    # Starting, and starting again

    def _make(self) -> None:
        if self._database.has_store():
            _check_schema(self._database.about())
        with self._database.transaction():
            self._database.make()
            about = {"schema": str(SCHEMA), "epoch": uuid.uuid4().hex}
            self._database.put(ABOUT, [{"name": n, "value": v} for n, v in about.items()])

    def _load(self) -> None:
        database = self._database
        about = database.about()
        _check_schema(about)
        items = tuple(msgspec.json.decode(doc, type=Item) for doc in database.items())
        self._catalogue = Catalogue(epoch=about["epoch"], items=items)
        self._counts = Counter(database.counts())
        self._highest = database.highest()
        told = about.get("ledger")
        ledger = msgspec.json.decode(told, type=Ledger) if told else Ledger()
        self._ledger = used(ledger, self._highest)

    def prepare(self, numbers: Collection[int], keys: Collection[str]) -> None:
        """Be connected, and read at once what a batch will ask for."""
        self._forget()
        if not self._database.is_open:
            self._reopen()
        known = [number for number in numbers if number <= self._highest]
        if known:
            docs = self._database.docs(known)
            self._seen = {number: _plain(docs.get(number)) for number in known}
        if keys:
            holders = self._database.holders(keys)
            self._holders = {key: holders.get(key) for key in keys}

    def _reopen(self) -> None:
        if self._why is not None and time.monotonic() < self._again:
            raise self._why
        try:
            self._database.open()
            self._load()
        except (StoreUnavailable, Conflict) as error:
            # To whoever asks, a conflict between DB nodes is a store that is not to be had.
            self._database.close()
            self._why = StoreUnavailable(error.message, hint=error.hint)
            self._again = time.monotonic() + AGAIN_S
            raise self._why from error
        self._why = None

    def _forget(self) -> None:
        self._seen, self._holders = {}, {}

    # Reading

    def find(self, call_num: int) -> Entry | None:
        """Return a call's record without its big pieces; None if unknown."""
        doc = self._doc(call_num)
        return None if doc is None else rows.brief(doc)

    def find_key(self, key: str) -> int | None:
        """Return the number of the call with this key; None if unknown."""
        if key in self._holders:
            return self._holders[key]
        return self._database.holders([key]).get(key)

    def whole(self, entry: Entry) -> CallRecord:
        """Return the record of an entry that was found here, with its big pieces."""
        if not entry.held:
            return entry.record
        number = entry.record.call.call_num
        doc = self._doc(number)
        if doc is None:
            raise KeyError(number)
        pieces = self._database.pieces(number)
        return rows.whole(doc, lambda ref: self._fetch(number, pieces, ref))

    def _fetch(self, number: int, pieces: dict[str, bytes], ref: Ref) -> bytes:
        data = pieces.get(ref[3])
        if data is None or not rows.is_same(data, ref[3]):
            raise StoreUnavailable(
                f"a piece of call {number} is damaged in the store {self._database.where}",
                hint="put back a backup of the database",
            )
        return data

    def scan(self, query: Query) -> Iterator[Entry]:
        """Yield the entries that a listing may hold in its order, lazily."""
        after = query.after
        while found := self._database.listed(query, after):
            for _, doc in found:
                yield rows.brief(msgspec.json.decode(doc))
            if len(found) <= query.limit:
                return
            after = found[-1][0]

    def _doc(self, number: int) -> Doc | None:
        if number in self._seen:
            return self._seen[number]
        if number > self._highest:
            return None
        return _plain(self._database.docs([number]).get(number))

    # Writing

    def commit(self, changes: Changes) -> None:
        """Make a batch durable in one transaction, or raise and leave everything as it was."""
        staging = Staging()
        for number, entry in changes.entries.items():
            staging.put(number, entry, self._doc(number))
        for number in changes.gone:
            if (doc := self._doc(number)) is not None:
                staging.drop(doc)
        with self._database.transaction():
            self._write(changes, staging)
        self._catalogue = changes.catalogue or self._catalogue
        self._ledger = changes.ledger or self._ledger
        self._highest = max(self._highest, *changes.entries, 0)
        self._counts.update(staging.counts)
        self._counts = +self._counts
        self._forget()

    def _write(self, changes: Changes, staging: Staging) -> None:
        database = self._database
        if changes.catalogue is not None:
            new = changes.catalogue.items[len(self._catalogue.items) :]
            database.put(ITEMS, [{"seq": each.seq, "doc": _json(each)} for each in new])
        if changes.ledger is not None:
            database.put(ABOUT, [{"name": "ledger", "value": _json(changes.ledger)}])
        database.drop_pieces(staging.stale)
        database.put(PIECES, staging.pieces)
        database.put(COUNTS, staging.counted())
        written = database.put(CALLS, staging.calls) + database.drop_calls(changes.gone)
        if written != len(staging.calls) + len(changes.gone):
            raise StoreUnavailable(
                f"somebody else has written calls to the store {database.where}",
                hint="only one DB node may use a store; it is read anew now",
            )

    def tidy(self) -> None:
        """Do nothing: the database does what makes later work cheaper."""

    def pages(self) -> tuple[int, int]:
        """Return none: there are no pages."""
        return 0, 0

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of its files by part; from any thread, while they change."""
        return self._sizes()

    def close(self) -> None:
        """Let go of the connection."""
        self._database.close()


def _check_schema(about: dict[str, str]) -> None:
    schema = about.get("schema", "unknown")
    if schema != str(SCHEMA):
        raise StoreUnavailable(
            f"the store is of schema {schema}, this release knows {SCHEMA}",
            hint="start the release that wrote it, or choose another --store",
        )


def _plain(doc: str | None) -> Doc | None:
    return None if doc is None else msgspec.json.decode(doc)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
