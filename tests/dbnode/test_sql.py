"""What databases do to a store: away, locked, full, torn, of somebody else, of the future."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dbnode.desk import Desk
from dbnode.opening import opened
from dbnode.sql import Database, postgresql_database, sqlite_database
from dbnode.sqlstore import SqlStore
from tests import postgres
from tests.conftest import eventually
from tests.dbnode.conftest import NewStore
from tests.dbnode.samples import DICE, DONE, RUNTIME, record
from tests.dbnode.test_crashes import BIG, STATES, dump, history, written
from tests.postgres import Server
from wire import errors, records
from wire.models import Logs, Model, Status

DATABASES = ["sqlite", "postgresql"]


@contextmanager
def desk_of(database: Database) -> Iterator[Desk]:
    """Open a store, new or not, behind a desk."""
    with closing(SqlStore(database)) as store:
        yield Desk(store, "test")


def ask(desk: Desk, *requests: Model) -> Any:
    """Return the answer of the last one; none may be refused."""
    answers = desk.answer(requests)
    refused = [each for each in answers if isinstance(each, errors.SkepError)]
    assert not refused
    return answers[-1]


def refusal(desk: Desk, request: Model) -> errors.StoreUnavailable:
    """Return why the store cannot do this now."""
    (answer,) = desk.answer([request])
    assert isinstance(answer, errors.StoreUnavailable), answer
    assert answer.hint
    return answer


def database(name: str) -> Database:
    """Return the database of a store's name."""
    if name.startswith("sqlite:///"):
        return sqlite_database(Path(name.removeprefix("sqlite:///")), patience_s=0.1)
    return postgresql_database(name)


@pytest.mark.parametrize("kind", DATABASES)
def test_each_batch_is_there_for_whoever_opens_it_next(new_store: NewStore, kind: str) -> None:
    name = new_store(kind)
    for index, batch in enumerate(history()):
        with desk_of(database(name)) as desk:
            assert _alike(dump(desk), STATES[index])
            ask(desk, *batch)
            assert _alike(dump(desk), STATES[index + 1])
    with desk_of(database(name)) as desk:
        assert _alike(dump(desk), STATES[-1])


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two dumps are the same but for ids that each store gave by itself."""
    return bool(one["calls"] == other["calls"] and len(one["items"]) == len(other["items"]))


def test_a_log_torn_at_any_byte_holds_whole_batches(tmp_path: Path) -> None:
    """What a power cut leaves of SQLite's log: the batches before the tear, and no part."""
    file, copy = tmp_path / "db", tmp_path / "copy"
    store = SqlStore(sqlite_database(file))
    desk = Desk(store, "test")
    ends = []
    for batch in history():
        ask(desk, *batch)
        ends.append(Path(f"{file}-wal").stat().st_size)
    log = Path(f"{file}-wal").read_bytes()
    made = ends[0]
    # The main file is that of the beginning: nothing was moved into it yet.
    shutil.copyfile(file, tmp_path / "main")
    store.close()
    step = max(1, (len(log) - made) // 25)
    for size in (*range(made, len(log), step), *ends):
        shutil.copyfile(tmp_path / "main", copy)
        Path(f"{copy}-wal").write_bytes(log[:size])
        with desk_of(sqlite_database(copy)) as torn:
            durable = sum(end <= size for end in ends)
            assert _alike(dump(torn), STATES[durable])
        Path(f"{copy}-shm").unlink(missing_ok=True)


def test_a_commit_is_synced(tmp_path: Path) -> None:
    with closing(SqlStore(sqlite_database(tmp_path / "db"))) as store:
        told = store._database._scalar
        assert told("PRAGMA journal_mode") == "wal"
        assert told("PRAGMA synchronous") == 2


@pytest.mark.parametrize("kind", DATABASES)
def test_big_pieces_are_kept_once_and_go_with_what_named_them(
    new_store: NewStore, kind: str
) -> None:
    params = b'"%s"' % BIG.encode()
    with desk_of(database(new_store(kind))) as desk:
        store = desk._store
        assert isinstance(store, SqlStore)
        ask(desk, written(record(1, params=params, logs=Logs(stdout="o" * 3000))))
        assert len(store._database.pieces(1)) == 2
        # The params stay, the logs are others, the result is new and as big.
        newer = record(1, 2, params=b"", result=BIG, logs=Logs(stdout="n" * 3000))
        ask(desk, written(newer))
        pieces = store._database.pieces(1)
        assert sorted(pieces.values()) == sorted(
            [params, BIG.encode(), b'{"stdout":"%s","stderr":"","omitted":0}' % (b"n" * 3000)]
        )
        found = ask(desk, records.GetCall(call_num=1)).record
        assert bytes(found.call.params) == params
        assert found.logs == newer.logs
        ask(desk, written(record(1, 3, params=b"1", logs=Logs())))
        assert store._database.pieces(1) == {}


@pytest.mark.parametrize("kind", DATABASES)
def test_listings_find_by_index(new_store: NewStore, kind: str) -> None:
    """No filter reads all calls: the database says which index it takes."""
    name = new_store(kind)
    with desk_of(database(name)) as desk:
        some = (
            record(n, func_name=f"f{n % 50}", status=DONE if n % 40 else Status.LOST)
            for n in range(1, 2001)
        )
        ask(desk, written(*some), written(record(2001), record(2002, func_name="f1")))
        store = desk._store
        assert isinstance(store, SqlStore)
        if kind == "postgresql":
            store._database._scalar("ANALYZE")
        for query, count in (
            (records.ListCalls(status=Status.LOST), 50),
            (records.ListCalls(function="f1", order="desc"), 41),
            (records.ListCalls(function="default/f1", status=DONE), 40),
            (records.ListCalls(function="other/f1"), 0),
            (records.ListCalls(function="f\0"), 0),
        ):
            assert len(ask(desk, query).calls) == count
        assert len(ask(desk, records.UnfinishedCalls(api="api")).records) == 2
        how = "EXPLAIN QUERY PLAN " if kind == "sqlite" else "EXPLAIN "
        for where, index in (
            ("status = 'LOST'", "skep_calls_by_status"),
            ("function = 'f1'", "skep_calls_by_function"),
            ("function = 'f1' AND status = 'LOST'", "skep_calls_by_both"),
            ("status IN ('PENDING', 'RUNNING') AND api = 'api'", "skep_calls_open"),
            ("idempotency = 'default/k'", "skep_calls_by_key"),
        ):
            asked = f"{how} SELECT num, doc FROM skep_calls WHERE {where} ORDER BY num LIMIT 9"
            plan = store._database._opened().exec_driver_sql(asked).all()
            assert index in str(plan), (where, plan)


@pytest.mark.parametrize("kind", DATABASES)
def test_fresh_forgets_and_leaves_strangers_tables(new_store: NewStore, kind: str) -> None:
    name = new_store(kind)
    with opened(name) as store:
        assert isinstance(store, SqlStore)
        store._database._scalar("CREATE TABLE mine (x INTEGER)")
        desk = Desk(store, "test")
        ask(desk, records.RegisterRuntime(runtime=RUNTIME), written(record(1, result=BIG)))
        before = ask(desk, records.Ping()).epoch
    with opened(name, "fresh") as store:
        desk = Desk(store, "test")
        assert dump(desk) == {"calls": {}, "items": ()}
        assert ask(desk, records.Ping()).epoch != before
        assert ask(desk, records.LeaseCalls(api="api", epoch=1, count=1)).first == 1
        assert isinstance(store, SqlStore)
        assert store._database.pieces(1) == {}
        assert store._database._scalar("SELECT count(*) FROM mine") == 0


@pytest.mark.parametrize("kind", DATABASES)
def test_a_newer_schema_is_refused_and_left_alone(new_store: NewStore, kind: str) -> None:
    name = new_store(kind)
    with opened(name) as store:
        assert isinstance(store, SqlStore)
        store._database._scalar("UPDATE skep_store SET value = '2' WHERE name = 'schema'")
    for redeploy in ("keep", "fresh"):
        with (
            pytest.raises(errors.StoreUnavailable, match="schema 2, this release knows 1"),
            opened(name, redeploy),
        ):
            pass


@pytest.mark.parametrize("kind", DATABASES)
def test_a_write_that_breaks_the_rules_is_refused_by_the_database(
    new_store: NewStore, kind: str
) -> None:
    """Even if somebody writes past the lock: nothing newer, nothing ended is overwritten."""
    with desk_of(database(new_store(kind))) as desk:
        store = desk._store
        assert isinstance(store, SqlStore)
        ask(desk, written(record(1), record(2), record(3)))
        for num, change in ((1, "rev = 9"), (2, "epoch = 9"), (3, "status = 'LOST'")):
            store.prepare([num], [])
            store._database._scalar(f"UPDATE skep_calls SET {change} WHERE num = {num}")
            request = written(record(num, 2, status=DONE))
            assert isinstance(store._seen[num], dict)
            failed = refusal(desk, request)
            assert "somebody else" in failed.message
            assert store._database.is_open is False
            ask(desk, records.Ping())
            assert store._database.is_open


def test_a_locked_file_is_told_and_passes(tmp_path: Path) -> None:
    with desk_of(sqlite_database(tmp_path / "db", patience_s=0.05)) as desk:
        ask(desk, written(record(1)))
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            failed = refusal(desk, written(record(2)))
            assert "locked by another program" in failed.message
            # Whoever only reads is not kept waiting.
            assert ask(desk, records.GetCall(call_num=1))
            other.execute("ROLLBACK")
        ask(desk, written(record(2)))
        assert len(ask(desk, records.ListCalls()).calls) == 2


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    with desk_of(sqlite_database(tmp_path / "db")) as desk:
        ask(desk, records.RegisterRuntime(runtime=RUNTIME), written(record(1)))
        store = desk._store
        assert isinstance(store, SqlStore)
        store._database._scalar("PRAGMA max_page_count = 1")
        big = written(record(2, result="x" * 200_000))
        (failed, again) = desk.answer([big, records.RegisterFunction(function=DICE)])
        assert isinstance(failed, errors.StoreUnavailable)
        assert "is full" in failed.message
        assert "make room" in failed.hint
        assert again is failed
        assert store.highest == 1
        # The limit was that of the connection, and it was closed: there is room again.
        assert len(ask(desk, records.ReadCatalogue()).items) == 1
        ask(desk, big)
        assert len(ask(desk, records.ListCalls()).calls) == 2


def test_no_database_is_never_written_to(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"JFIF" * 1000)
    for redeploy in ("keep", "fresh"):
        with (
            pytest.raises(errors.StoreUnavailable, match="is not a SQLite database"),
            opened(f"sqlite:///{file}", redeploy),
        ):
            pass
    assert file.read_bytes() == b"JFIF" * 1000


@pytest.fixture
def server(cluster: Path) -> Iterator[Server]:
    """A PostgreSQL server that this test may stop."""
    with postgres.server(cluster) as made:
        yield made


def test_a_server_that_is_away_loses_nothing_and_is_found_again(server: Server) -> None:
    url = server.url(server.database())
    with desk_of(postgresql_database(url)) as desk:
        ask(desk, records.OpenApi(api="api"), records.RegisterRuntime(runtime=RUNTIME))
        ask(desk, records.LeaseCalls(api="api", epoch=1, count=16), written(record(1)))
        # As a power cut: nobody says goodbye, and the server has to recover.
        server.stop(signal.SIGQUIT)
        refusal(desk, written(record(2)))
        failed = refusal(desk, records.LeaseCalls(api="api", epoch=1, count=16))
        assert "does not answer" in failed.message
        refusal(desk, records.GetCall(call_num=1))
        # What is in memory can be read all the same.
        assert len(ask(desk, records.ReadCatalogue()).items) == 1
        server.start()
        eventually(lambda: desk.answer([written(record(2))])[0] == _acked(2))
        leased = ask(desk, records.LeaseCalls(api="api", epoch=1, count=16))
        assert leased == records.CallsLeased(first=17, count=16)
        assert len(ask(desk, records.ListCalls()).calls) == 2


def _acked(num: int) -> records.CallsWritten:
    return records.CallsWritten(acks=((num, 1),))


def test_who_took_over_meanwhile_keeps_the_store(shared_server: Server) -> None:
    """A DB node whose session was lost comes back to a store that is another's."""
    name = shared_server.database()
    url = shared_server.url(name)
    with desk_of(postgresql_database(url)) as first:
        ask(first, records.OpenApi(api="api"))
        shared_server.say(
            name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'skep-dbnode' AND datname = current_database()",
        )  # fmt: skip
        with desk_of(postgresql_database(url)) as second:
            assert ask(second, records.OpenApi(api="api")).epoch == 2
            refusal(first, records.OpenApi(api="api"))
            failed = refusal(first, records.OpenApi(api="api"))
            assert "in use by another DB node" in failed.message
            ask(second, replace(written(record(1)), epoch=2))
        # The other is gone; what it did is not.
        eventually(lambda: not isinstance(_opened_by(first), errors.SkepError))
        assert ask(first, records.GetCall(call_num=1))
        assert ask(first, records.OpenApi(api="api")).epoch == 4


def _opened_by(desk: Desk) -> Any:
    return desk.answer([records.OpenApi(api="api")])[0]


def test_wrong_passwords_and_rights_are_told_without_the_password(
    shared_server: Server,
) -> None:
    name = shared_server.database()
    shared_server.say("postgres", "CREATE USER bob PASSWORD 'right'")
    wrong = shared_server.url(name, "bob:hunter22")
    with pytest.raises(errors.StoreUnavailable, match="refuses this user or password") as told:
        SqlStore(postgresql_database(wrong))
    assert "hunter22" not in f"{told.value}{told.value.hint}{told.value.__cause__}"
    assert "pgpass" in told.value.hint
    right = shared_server.url(name, "bob:right")
    with pytest.raises(errors.StoreUnavailable, match="too few rights"):
        SqlStore(postgresql_database(right))
    nowhere = shared_server.url("nowhere")
    with pytest.raises(errors.StoreUnavailable, match="does not have this database"):
        SqlStore(postgresql_database(nowhere))
    shared_server.say(name, "GRANT CREATE ON SCHEMA public TO bob")
    with desk_of(postgresql_database(right)) as desk:
        ask(desk, written(record(1)))
        assert "right" not in repr(desk)


def test_a_database_that_cannot_hold_every_text_is_refused(shared_server: Server) -> None:
    shared_server.say("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(errors.StoreUnavailable, match="encoding LATIN1") as told:
        SqlStore(postgresql_database(shared_server.url("latin")))
    assert "ENCODING 'UTF8'" in told.value.hint


@pytest.mark.parametrize("kind", DATABASES)
def test_any_text_and_any_number_comes_back(new_store: NewStore, kind: str) -> None:
    odd = "a'b \N{SNOWMAN} \\u0000 \U0001f41d"
    with desk_of(database(new_store(kind))) as desk:
        one = record(
            1, func_name=odd, project=odd, params=b'"\\u0000"', result=f"{odd}\0" * 300,
            idempotency_key="k", idempotency_digest=odd, status=DONE,
        )  # fmt: skip
        ask(desk, written(one))
        assert ask(desk, records.GetCall(call_num=1)).record == one
        assert ask(desk, records.FindCall(idempotency_key="k", project=odd)).record == one
        assert ask(desk, records.ListCalls(function=odd)).calls == (one.call,)
        assert ask(desk, records.ListCalls(after=1 << 80)).calls == ()
        for bad in (record(1 << 63), record(2, func_name="a\0b"), record(2, project="\0")):
            (answer,) = desk.answer([written(bad)])
            assert isinstance(answer, errors.BadRequest)
        nobody = records.FindCall(idempotency_key="k", project="\0")
        assert isinstance(desk.answer([nobody])[0], errors.UnknownCall)
        ask(desk, written(record((1 << 63) - 1)))
