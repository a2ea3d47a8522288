"""Stores exported, imported and checked: nothing is lost, nothing damaged goes unseen."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dbnode.checking import Found, check
from dbnode.desk import Desk
from dbnode.dump import read, written
from dbnode.opening import opened
from dbnode.store import Store
from dbnode.taking import take
from tests.conftest import eventually
from tests.dbnode.conftest import NewStore
from tests.dbnode.samples import DICE, DONE, RUNTIME, record
from wire import errors, records
from wire.models import Logs, Status

KINDS = ("tinydb", "sqlite", "postgresql", "memory")
NOW_MS = 1_767_225_600_000
ODD = b'{"a": 1.50, "a": 2,\n "b": 1e400, "c": "\\u00e9"}'


def fill(store: Store, count: int = 12) -> None:
    desk = Desk(store, "test")
    big = b'"%s"' % (b"p" * 2000)
    some = [
        record(1, params=ODD, status=DONE, idempotency_key="one", idempotency_digest="d"),
        record(2, 3, params=big, status=Status.FAILED, logs=Logs(stderr="e" * 2000)),
        record(3, status=Status.RUNNING, result=""),
        *(record(num, status=DONE, result="r" * 1500) for num in range(4, count + 1)),
    ]
    batches: list[list[Any]] = [
        [records.OpenApi(api="api"), records.RegisterRuntime(runtime=RUNTIME)],
        [records.RegisterFunction(function=DICE)],
        [records.RegisterFunction(function=replace(DICE, timeout=9.0))],
        [records.LeaseCalls(api="api", epoch=1, count=count + 4)],
        [records.WriteCalls(api="api", epoch=1, records=tuple(some))],
    ]
    for batch in batches:
        for answer in desk.answer(batch):
            assert not isinstance(answer, errors.SkepError), answer
        desk.tidy()


def content(store: Store) -> dict[str, Any]:
    entries = store.scan(records.ListCalls(order="asc", limit=1000))
    return {
        "calls": [store.whole(entry) for entry in entries],
        "counts": store.counts(),
        "items": store.catalogue.items,
        "ledger": store.ledger,
        "key": store.find_key("default/one"),
    }


def exported(store: Store) -> bytes:
    return b"".join(data for data, _ in written(store, "test"))


def found(store: Store) -> Found:
    *_, last = check(store, NOW_MS)
    return last


def taken(store: Store, data: bytes) -> None:
    for _ in take(store, read(io.BytesIO(data))):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_is_what_is_imported(kind: str, new_store: NewStore) -> None:
    with opened("memory") as origin:
        fill(origin, 1100)
        data = exported(origin)
        expected = content(origin)
    name = new_store(kind)
    with opened(name) as store:
        taken(store, data)
        assert content(store) == expected
        there = found(store)
        assert (there.calls, there.unfinished, there.faults) == (1100, 1, [])
        assert (there.runtimes, there.functions) == (1, 1)
        again = exported(store)
    if kind != "memory":
        with opened(name) as store:
            assert content(store) == expected
            assert exported(store) == again
    # Only the head differs: which store it was.
    assert again.split(b"\n")[1:-2] == data.split(b"\n")[1:-2]


def test_a_store_in_use_takes_nothing_over() -> None:
    with opened("memory") as origin, opened("memory") as other:
        fill(origin)
        fill(other)
        before = content(other)
        with pytest.raises(errors.Conflict, match="in use"):
            taken(other, exported(origin))
        assert content(other) == before


def test_a_store_with_another_history_takes_nothing_over() -> None:
    with opened("memory") as origin, opened("memory") as other:
        fill(origin)
        other.commit(_entries(record(2, 7)))
        with pytest.raises(errors.Conflict, match="another call 2"):
            taken(other, exported(origin))
        assert not other.catalogue.items


def _entries(*some: Any) -> Any:
    from dbnode.calls import Entry  # noqa: PLC0415
    from dbnode.store import Changes  # noqa: PLC0415

    return Changes(entries={one.call.call_num: Entry(one) for one in some})


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    lines = data.splitlines(keepends=True)
    yield "cut off", b""
    yield "no export", b"{}\n"
    yield "not of an export", b"\x1f\x8b\x00\n" + data
    yield "cut off", b"".join(lines[:-1])
    yield "cut off", lines[0]
    yield "digest", b"".join(lines[:3] + lines[4:])
    yield "digest", data.replace(b'"rev":3', b'"rev":4')
    yield "after the export's end", data + lines[1]
    yield "not of an export", data[: len(data) // 2]
    yield "format 99", data.replace(b'"format":1', b'"format":99')
    yield "no export", lines[0] + data


def test_a_damaged_export_is_refused() -> None:
    with opened("memory") as origin:
        fill(origin)
        data = exported(origin)
    assert len(list(read(io.BytesIO(data)))) == len(data.splitlines())
    for why, bad in damaged(data):
        with pytest.raises(errors.BadRequest, match=why):
            list(read(io.BytesIO(bad)))


def test_an_import_that_was_cut_off_goes_on(new_store: NewStore) -> None:
    with opened("memory") as origin:
        fill(origin, 1200)
        data = exported(origin)
        expected = content(origin)
    name = new_store("tinydb")
    with opened(name) as store:
        taking = take(store, read(io.BytesIO(data)))
        assert next(taking) == 500
        del taking
    with opened(name) as store:
        assert not store.catalogue.items
        taken(store, data)
        assert content(store) == expected


def test_a_check_sees_damage(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    with opened(f"tinydb:{folder}") as store:
        fill(store)
        assert found(store).faults == []
    pack = next(folder.glob("calls/content/*/*"))
    pack.write_bytes(pack.read_bytes().replace(b"rrrr", b"rrxr", 1))
    with opened(f"tinydb:{folder}") as store:
        (fault,) = found(store).faults
        assert "damaged" in fault
    file = tmp_path / "db.sqlite"
    with opened(f"sqlite:///{file}") as store:
        fill(store)
        assert found(store).faults == []
    database = sqlite3.connect(file)
    with database:
        database.execute("UPDATE skep_pieces SET data = x'00' WHERE num = 5")
        database.execute("UPDATE skep_counts SET calls = 99")
        database.execute("DELETE FROM skep_items WHERE seq = 2")
    database.close()
    with opened(f"sqlite:///{file}") as store:
        faults = " ".join(found(store).faults)
    for sign in ("call 5", "damaged", "99", "change 2 of the catalogue", "does not know"):
        assert sign in faults


def test_a_check_sees_numbers_and_keys_that_do_not_fit() -> None:
    with opened("memory") as store:
        fill(store)
        keyed = record(30, idempotency_key="x", accepted_at="2026-01-01T00:00:00.000Z")
        store.commit(_entries(keyed))
        assert [fault.split()[1] for fault in found(store).faults] == ["30"]
        object.__getattribute__(store, "_keys").clear()
        assert sum("Idempotency-Key" in fault for fault in found(store).faults) == 2


def skep(*arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "cli", "db", *arguments]
    return subprocess.run(command, capture_output=True, timeout=50, check=False, **more)


def test_the_command_moves_a_store(tmp_path: Path) -> None:
    with opened("tinydb", data=tmp_path) as store:
        fill(store)
        expected = content(store)
        held = skep("export", "--data", str(tmp_path), str(tmp_path / "out"))
        assert held.returncode == 2
        assert b"in use by another process" in held.stderr
        assert sorted(each.name for each in tmp_path.iterdir()) == ["db"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        piped = skep("export", "--data", str(tmp_path), str(pipe))
        if not pipe.is_fifo():
            reader.kill()
        through, _ = reader.communicate()
    assert (piped.returncode, pipe.is_fifo()) == (0, True), piped.stderr
    out = skep("export", "--data", str(tmp_path), "-")
    assert through == out.stdout
    assert out.returncode == 0, out.stderr
    assert b"exported 12 calls" in out.stderr
    target = f"sqlite:///{tmp_path}/new.sqlite"
    into = skep("import", "--store", target, "-", input=out.stdout)
    assert into.returncode == 0, into.stderr
    assert b"imported 12 calls, 1 runtimes, 1 functions" in into.stderr
    with opened(target) as store:
        assert content(store) == expected
    checked = skep("check", "--store", target, "--json")
    assert checked.returncode == 0, checked.stderr
    said = json.loads(checked.stdout)
    assert (said["calls"], said["faults"], said["ok"]) == (12, [], True)
    nowhere = skep("check", "--data", str(tmp_path / "none"))
    assert nowhere.returncode == 2
    assert b"there is no store" in nowhere.stderr
    assert not (tmp_path / "none").exists()


def test_a_killed_export_leaves_what_was_there(tmp_path: Path) -> None:
    with opened("tinydb", data=tmp_path) as store:
        fill(store, 3000)
    file = tmp_path / "out"
    file.write_text("before")
    command = [sys.executable, "-P", "-m", "dbnode.tool", "--data", str(tmp_path)]
    with subprocess.Popen([*command, "export", str(file)]) as tool:
        eventually(lambda: list(tmp_path.glob(".out-*")))
        os.kill(tool.pid, signal.SIGKILL)
    assert file.read_text() == "before"
    ran = subprocess.run([*command, "export", str(file)], timeout=50, check=True)
    assert ran.returncode == 0
    with file.open("rb") as lines:
        assert sum(line.call is not None for line in read(lines)) == 3000
    assert file.stat().st_mode & 0o777 == 0o600


def has_pages(place: Path, count: int) -> bool:
    return len(list(place.glob("db/calls/*/*.json"))) >= count


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    with opened("memory") as origin:
        fill(origin, 4000)
        data = exported(origin)
        expected = content(origin)
    file = tmp_path / "dump"
    file.write_bytes(data)
    place = tmp_path / "to"
    command = [sys.executable, "-P", "-m", "dbnode.tool", "--data", str(place)]
    for pages in (1, 2, 3):
        with subprocess.Popen([*command, "import", str(file)]) as tool:
            begun = partial(has_pages, place, pages)
            eventually(begun)
            os.kill(tool.pid, signal.SIGKILL)
    subprocess.run([*command, "import", str(file)], timeout=50, check=True)
    with opened("tinydb", data=place) as store:
        assert content(store) == expected
