"""One suite for all stores: a state machine with a dict for a model, restarts included."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from dbnode import rows
from dbnode.desk import Desk
from dbnode.memory import MemoryStore
from dbnode.retention import Retention
from dbnode.seals import Layout
from dbnode.sql import Database, postgresql_database, sqlite_database
from dbnode.sqlstore import SqlStore
from dbnode.store import Store
from dbnode.testing import ForgetfulDisk, Kept
from dbnode.tinystore import TinyStore
from tests.dbnode.samples import record
from tests.postgres import Server
from wire import errors, records
from wire.models import CallRecord, Logs, Model, Status

NOW_MS = 1_800_000_000_000
NUMBERS = st.integers(1, 13)
STATUSES = st.sampled_from(list(Status))
SIZES = st.sampled_from([0, 3, 1500])
FUNCTIONS = st.sampled_from(["dice", "sum", "hello"])


class Stores(RuleBasedStateMachine):
    """Whatever is written and read in whatever order: the store says what the dict says."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(self.open(), "test")
        self.model: dict[int, CallRecord] = {}
        self.epoch = 0
        self.leased = 0

    def open(self) -> Store:
        raise NotImplementedError

    def ask(self, request: Model) -> Any:
        answer = self.desk.answer([request])[0]
        if isinstance(answer, errors.SkepError):
            raise answer
        return answer

    @rule()
    def open_api(self) -> None:
        opened = self.ask(records.OpenApi(api="api"))
        assert opened.epoch > self.epoch
        self.epoch = opened.epoch

    @precondition(lambda self: self.epoch)
    @rule(count=st.integers(1, 5))
    def lease(self, count: int) -> None:
        leased = self.ask(records.LeaseCalls(api="api", epoch=self.epoch, count=count))
        assert leased.first > max(self.leased, *self.model, 0)
        self.leased = leased.first + count - 1

    @precondition(lambda self: self.epoch)
    @rule(
        writes=st.lists(
            st.tuples(NUMBERS, st.integers(1, 6), STATUSES, FUNCTIONS, SIZES, SIZES),
            min_size=1,
            max_size=12,
        )
    )
    def write(self, writes: list[tuple[int, int, Status, str, int, int]]) -> None:
        some = [self._record(*each) for each in writes]
        request = records.WriteCalls(api="api", epoch=self.epoch, records=tuple(some))
        answer = self.ask(request)
        assert answer.acks == tuple((one.call.call_num, one.rev) for one in some)
        for one in some:
            self._expect(one)

    def _record(
        self, num: int, rev: int, status: Status, function: str, params: int, logs: int
    ) -> CallRecord:
        return record(
            num,
            rev,
            epoch=self.epoch,
            status=status,
            func_name=function,
            params=b'"%s"' % (b"p" * params) if params else b"",
            result="r" * logs if status.is_terminal else "",
            logs=Logs(stdout="o" * logs) if logs else None,
        )

    def _expect(self, new: CallRecord) -> None:
        num = new.call.call_num
        old = self.model.get(num)
        if old is None:
            params = new.call.params or record().call.params
            self.model[num] = replace(new, call=replace(new.call, params=params))
        elif new.rev <= old.rev:
            return
        elif old.call.status.is_terminal:
            logs = new.logs if old.logs is None else old.logs
            self.model[num] = replace(old, rev=new.rev, epoch=new.epoch, logs=logs)
        else:
            params = new.call.params or old.call.params
            logs = old.logs if new.logs is None else new.logs
            call = replace(new.call, params=params)
            self.model[num] = replace(new, call=call, logs=logs)

    @precondition(lambda self: self.epoch > 1)
    @rule(num=NUMBERS)
    def an_older_life_writes(self, num: int) -> None:
        old = record(num, 99, epoch=self.epoch - 1)
        request = records.WriteCalls(api="api", epoch=self.epoch - 1, records=(old,))
        (answer,) = self.desk.answer([request])
        assert isinstance(answer, errors.StaleEpoch)

    @rule()
    def tidy(self) -> None:
        self.desk.tidy()

    @rule(keep=st.integers(0, 13))
    def expire(self, keep: int) -> None:
        """The oldest that have ended go, until no more are left than are kept."""
        keeping = Desk(self.desk._store, "test", Retention(keep_calls=keep))
        assert not keeping.expire(NOW_MS)
        ended = [n for n, one in sorted(self.model.items()) if one.call.status.is_terminal]
        for num in ended[: max(len(self.model) - keep, 0)]:
            del self.model[num]
        keeping.tidy()

    @rule(num=NUMBERS)
    def get(self, num: int) -> None:
        (answer,) = self.desk.answer([records.GetCall(call_num=num)])
        if num in self.model:
            assert answer == records.CallGot(record=self.model[num])
        else:
            assert isinstance(answer, errors.UnknownCall)

    @rule(
        order=st.sampled_from(["asc", "desc"]),
        limit=st.integers(1, 7),
        after=st.none() | st.integers(0, 15),
        status=st.none() | STATUSES,
        function=st.none() | FUNCTIONS,
    )
    def list_calls(
        self,
        order: Any,
        limit: int,
        after: int | None,
        status: Status | None,
        function: str | None,
    ) -> None:
        query = records.ListCalls(
            order=order, limit=limit, after=after, status=status, function=function
        )
        wanted = [
            one.call
            for num, one in sorted(self.model.items(), reverse=order == "desc")
            if (after is None or (num < after if order == "desc" else num > after))
            and status in (None, one.call.status)
            and function in (None, one.call.func_name)
        ]
        answer = self.ask(query)
        assert list(answer.calls) == wanted[:limit]
        assert answer.more == (len(wanted) > limit)

    @rule(after=st.integers(0, 15), limit=st.integers(1, 7))
    def unfinished(self, after: int, limit: int) -> None:
        wanted = [
            replace(one, logs=None)
            for num, one in sorted(self.model.items())
            if num > after and not one.call.status.is_terminal
        ]
        answer = self.ask(records.UnfinishedCalls(api="api", after=after, limit=limit))
        assert list(answer.records) == wanted[:limit]
        assert answer.more == (len(wanted) > limit)
        assert not self.ask(records.UnfinishedCalls(api="b")).records

    @invariant()
    def counted(self) -> None:
        counts: dict[str, int] = {}
        for one in self.model.values():
            key = f"default/{one.call.func_name}"
            counts[key] = counts.get(key, 0) + 1
        assert self.ask(records.CallCounts()).counts == counts


class MemoryStores(Stores):
    def open(self) -> Store:
        return MemoryStore()


class TinyStores(Stores):
    disk: ForgetfulDisk

    def open(self) -> Store:
        self.disk = ForgetfulDisk()
        return TinyStore(self.disk, Layout(calls=3, pages=2))

    @rule(kept=st.sampled_from(list(Kept)))
    def restart(self, kept: Kept) -> None:
        self.disk = self.disk.after_crash(kept)
        self.desk = Desk(TinyStore(self.disk, Layout(calls=3, pages=2)), "test")

    @rule()
    def full(self) -> None:
        """A write that finds the disk full changes nothing."""
        self.disk.is_full = True
        request = records.WriteCalls(api="x", epoch=9, records=(record(14, api="x"),))
        (answer,) = self.desk.answer([request])
        self.disk.is_full = False
        assert isinstance(answer, errors.StoreUnavailable)


class SqlStores(Stores):
    """Both databases; a restart connects anew, and reads what there is."""

    store: SqlStore

    def database(self) -> Database:
        raise NotImplementedError

    def open(self) -> Store:
        self.store = SqlStore(self.database(), fresh=True)
        return self.store

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = SqlStore(self.database())
        self.desk = Desk(self.store, "test")

    @rule()
    def lost(self) -> None:
        """A connection that was lost is made anew for the next batch."""
        self.store._database.close()

    def teardown(self) -> None:
        self.store.close()


class SqliteStores(SqlStores):
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__()

    def database(self) -> Database:
        return sqlite_database(Path(self.folder.name, "db"))

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class PostgresqlStores(SqlStores):
    url: ClassVar[str]

    def database(self) -> Database:
        return postgresql_database(self.url)


SETTINGS = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestMemory = MemoryStores.TestCase
TestMemory.settings = SETTINGS
TestTiny = TinyStores.TestCase
TestTiny.settings = SETTINGS
#: Each step of these waits for a disk or a server.
FEW = settings(max_examples=10, stateful_step_count=40, deadline=None)
TestSqlite = SqliteStores.TestCase
TestSqlite.settings = FEW
TestPostgresql = PostgresqlStores.TestCase
TestPostgresql.settings = FEW


@pytest.fixture(scope="class", autouse=True)
def postgresql(request: pytest.FixtureRequest) -> None:
    """Give the machine of PostgreSQL a database."""
    if request.cls is TestPostgresql:
        server: Server = request.getfixturevalue("shared_server")
        PostgresqlStores.url = server.url(server.database())


def test_a_start_reads_open_pages_and_the_index_alone() -> None:
    class Counting(ForgetfulDisk):
        def read(self, path: str, offset: int = 0, length: int = -1) -> bytes:
            read.append(path)
            return super().read(path, offset, length)

    read: list[str] = []
    disk = Counting()
    layout = Layout(calls=10, pages=1000)
    store = TinyStore(disk, layout)
    desk = Desk(store, "test")
    for first in range(1, 500, 10):
        some = tuple(record(num, status=Status.DONE) for num in range(first, first + 10))
        desk.answer([records.WriteCalls(api="api", epoch=1, records=some)])
        desk.tidy()
    desk.answer([records.WriteCalls(api="api", epoch=1, records=(record(501),))])
    read.clear()
    desk = Desk(TinyStore(disk, layout), "test")
    calls = [path for path in read if path.startswith("calls/")]
    assert calls == ["calls/index/0000000001.json", "calls/open/0000000501.json"]
    # A listing reads as many pages as its answer needs; a filter skips by the tallies.
    read.clear()
    (page,) = desk.answer([records.ListCalls(order="desc", limit=15)])
    assert isinstance(page, records.CallsListed)
    assert len(page.calls) == 15
    assert read == ["calls/sealed/0000000491.json", "calls/sealed/0000000481.json"]
    read.clear()
    (page,) = desk.answer([records.ListCalls(status=Status.LOST)])
    assert page == records.CallsListed(calls=(), more=False)
    (page,) = desk.answer([records.ListCalls(function="nobody")])
    assert page == records.CallsListed(calls=(), more=False)
    assert not read


def test_a_damaged_piece_fails_its_readers_alone() -> None:
    disk = ForgetfulDisk()
    desk = Desk(TinyStore(disk), "test")
    some = (record(1, result="x" * 2000), record(2))
    desk.answer([records.WriteCalls(api="api", epoch=1, records=some)])
    (pack,) = disk.list("calls/content/0000000001")
    disk.write(f"calls/content/0000000001/{pack}", b"y" * 2000)
    bad, good = desk.answer([records.GetCall(call_num=1), records.GetCall(call_num=2)])
    assert isinstance(bad, errors.StoreUnavailable)
    assert "damaged" in bad.message
    assert isinstance(good, records.CallGot)


def _older(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@pytest.mark.parametrize("kind", ["tinydb", "sqlite"])
def test_pieces_of_an_older_store_are_read_and_known_again(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = ForgetfulDisk()

    def write(revision: int) -> CallRecord:
        """Open the store, write, and read the call."""
        is_tiny = kind == "tinydb"
        store = TinyStore(disk) if is_tiny else SqlStore(sqlite_database(tmp_path / "calls"))
        with closing(store):
            new = record(1, revision, result="x" * 2000)
            write = records.WriteCalls(api="api", epoch=1, records=(new,))
            _, got = Desk(store, "test").answer([write, records.GetCall(call_num=1)])
        assert isinstance(got, records.CallGot)
        return got.record

    with monkeypatch.context() as then:
        then.setattr(rows, "digest", _older)
        write(1)

    def places() -> list[Any]:
        """Return where the pieces of the call are."""
        if kind == "tinydb":
            return list(disk.list("calls/content/0000000001"))
        with closing(sqlite3.connect(tmp_path / "calls")) as database:
            return database.execute("SELECT digest FROM skep_pieces").fetchall()

    before = places()
    again = write(2)
    assert (again.rev, again.call.result) == (2, "x" * 2000)
    # It is where it was: nothing is written twice.
    assert len(before) == 1
    assert places() == before


def test_a_lost_ledger_gives_no_number_twice() -> None:
    disk = ForgetfulDisk()
    desk = Desk(TinyStore(disk), "test")
    desk.answer([records.WriteCalls(api="api", epoch=1, records=(record(41),))])
    disk.remove("ledger.json")
    desk = Desk(TinyStore(disk), "test")
    (leased,) = desk.answer([records.LeaseCalls(api="api", epoch=1, count=2)])
    assert leased == records.CallsLeased(first=42, count=2)
