"""A real disk that is full: a DB node refuses clearly, loses nothing, and goes on by itself."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.conftest import eventually
from tests.dbnode.running import Asker, Refused, asker, end, plain_record, running, start
from tests.small_disk import SmallDisk, small_disk

#: Four processes start one after the other; on a busy machine that takes long.
pytestmark = pytest.mark.timeout(180)

#: How much room is left when writing begins: so it runs out at this write or at that.
LEAVE = (0, 4096, 20_000, 70_000)
#: More than any of that.
MANY = 60


def records(first: int, count: int, epoch: int, rev: int = 1) -> dict[str, Any]:
    fields = {"status": "DONE", "result": "r" * 3000} if rev > 1 else {}
    some = [plain_record(num, rev, epoch, **fields) for num in range(first, first + count)]
    return {"api": "api", "epoch": epoch, "records": some}


class Writing:
    """Writes calls and knows which were acknowledged."""

    def __init__(self, db: Asker) -> None:
        self.db = db
        self.epoch = db.ask("openApi", api="api")["epoch"]
        self.next = 1
        self.acked: list[int] = []

    def write(self) -> None:
        """Write one more call, as accepted and as ended."""
        for rev in (1, 2):
            self.db.ask("writeCalls", **records(self.next, 1, self.epoch, rev))
        self.acked.append(self.next)
        self.next += 1

    def until_refused(self) -> Refused:
        for _ in range(MANY):
            try:
                self.write()
            except Refused as refused:
                return refused
        pytest.fail("the disk does not get full")

    def check(self, db: Asker | None = None) -> None:
        for num in self.acked:
            call = (db or self.db).ask("getCall", callNum=num)["record"]["call"]
            assert (call["status"], call["result"]) == ("DONE", "r" * 3000)


def fill_and_free(disk: SmallDisk, writing: Writing) -> None:
    for leave in LEAVE:
        disk.fill(leave)
        for _ in range(2):
            refused = writing.until_refused()
            assert refused.code == "store_unavailable"
            assert refused.hint
        writing.check()
        disk.free()
        eventually(lambda: accepts(writing), what="it goes on by itself")
        writing.check()


def accepts(writing: Writing) -> bool:
    try:
        writing.write()
    except Refused as refused:
        assert refused.code == "store_unavailable", refused
        return False
    return True


@pytest.mark.parametrize("kind", ["tinydb", "sqlite"])
def test_a_full_disk_refuses_loses_nothing_and_passes(tmp_path: Path, kind: str) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        store = {"tinydb": "tinydb:disk/db", "sqlite": f"sqlite:///{disk.folder}/db.sqlite"}
        with running(tmp_path, "--store", store[kind]) as db:
            writing = Writing(db)
            writing.write()
            fill_and_free(disk, writing)
        with running(tmp_path, "--store", store[kind]) as db:
            writing.check(db)


@pytest.mark.parametrize("kind", ["tinydb", "sqlite"])
def test_killed_on_a_full_disk_it_starts_and_reads_and_writes_when_there_is_room(
    tmp_path: Path, kind: str
) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        store = {"tinydb": "tinydb:disk/db", "sqlite": f"sqlite:///{disk.folder}/db.sqlite"}
        process, endpoint = start(tmp_path, "--store", store[kind])
        with ExitStack() as stack:
            writing = Writing(stack.enter_context(asker(endpoint)))
            for _ in range(5):
                writing.write()
            disk.fill()
            writing.until_refused()
            process.kill()
            process.communicate()
        try:
            process, endpoint = start(tmp_path, "--store", store[kind])
        except RuntimeError as error:
            # A store that cannot even begin says what there is to do.
            assert "make room" in str(error)
            disk.free()
            process, endpoint = start(tmp_path, "--store", store[kind])
        else:
            disk.free()
        try:
            with asker(endpoint) as db:
                writing.check(db)
                again = Writing(db)
                again.next = 100
                again.write()
                again.check()
        finally:
            end(process)


def test_a_full_disk_of_the_database_server_refuses_loses_nothing_and_passes(
    tmp_path: Path, cluster: Path
) -> None:
    with (
        # Not below the folder of pytest, which is closed to others than its owner.
        tempfile.TemporaryDirectory(prefix="skep-disk-") as folder,
        small_disk(Path(folder) / "disk", 160) as disk,
        postgres.server(cluster, disk.folder) as server,
    ):
        store = server.url(server.database())
        with running(tmp_path, "--store", store) as db:
            writing = Writing(db)
            writing.write()
            disk.fill()
            # Its log has a file that is there already, and is filled first.
            assert any(refused(writing) for _ in range(2000))
            assert refused(writing)
            disk.free()
            # What lost its log has stopped; whoever runs the server starts it again.
            server.stop()
            server.start()
            eventually(lambda: accepts(writing), 40, what="it goes on by itself")
            writing.check()


def refused(writing: Writing) -> bool:
    try:
        writing.write()
    except Refused as error:
        assert error.code == "store_unavailable"
        return True
    return False
