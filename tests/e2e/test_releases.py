"""Releases that mix, a rolling upgrade under load, and protocol versions that do not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.room import Process, Room, open_room
from tests.conftest import soon
from tests.releases import NEWS, released, speaks
from wire.codec import VERSION
from wire.process import release

#: Each of them starts seven processes or more, one after another.
pytestmark = pytest.mark.timeout(150)
OTHER = VERSION + 1
PARAMS = {"sleep_s": 0.02}


@asynccontextmanager
async def worker(room: Room, name: str) -> AsyncIterator[Process]:
    """Run a worker of the room's release within the block; it may be ended earlier."""
    ipc = f"ipc://{room.folder}"
    process = Process(
        "worker", "--name", name, "--api", f"{ipc}/workers", "--pub", f"{ipc}/pub",
        "--data", str(room.folder / name), "--sandbox", "fake", "--slots", "2",
        cwd=room.folder, tree=room.tree,
    )  # fmt: skip
    try:
        await process.ready()
        yield process
    finally:
        if process.status is None:
            await asyncio.to_thread(process.end)


async def states(room: Room) -> dict[str, str]:
    _, workers, _ = await room.ask("GET", "/workers")
    return {one["name"]: one["state"] for one in workers}


async def versions(room: Room) -> dict[str, Any]:
    _, answer, _ = await room.ask("GET", "/version")
    return {one["name"]: one for one in answer["processes"]}


class Load:
    """Makes one call after another, and remembers which were accepted."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.accepted: list[int] = []
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            # An api that is being started again refuses, or is not there: nothing was accepted.
            with suppress(aiohttp.ClientError, KeyError):
                status, answer = await self._room.invoke(params=PARAMS)
                if status == 202:
                    self.accepted.append(answer["callNum"])
            await asyncio.sleep(0.02)

    async def goes_on(self) -> None:
        """Wait until a call that is accepted from now on has ended."""
        count = len(self.accepted)
        await soon(lambda: len(self.accepted) > count)
        await self._ended(self.accepted[-1])

    async def all_done(self) -> None:
        self._task.cancel()
        for number in self.accepted:
            record = await self._ended(number)
            # What a node handed back never began, and has no status.
            began = [one["status"] for one in record["attempts"] if one["status"]]
            assert (record["status"], began) == ("DONE", ["DONE"]), record

    async def _ended(self, number: int) -> dict[str, Any]:
        _, record, _ = await self._room.ask("GET", f"/call/{number}?wait=20")
        return dict(record)


async def test_a_rolling_upgrade_loses_no_call(tmp_path: Path) -> None:
    newer = released(tmp_path / "newer", "9.9.9", *NEWS)
    async with (
        open_room() as room,
        worker(room, "node1") as node1,
        worker(room, "node2") as node2,
    ):
        await room.register()
        await soon(lambda: both_up(room))
        load = Load(room)
        await load.goes_on()
        room.tree = newer
        assert room.db is not None
        assert room.api is not None
        assert await asyncio.to_thread(room.db.end) == 0
        await room.start_db()
        await load.goes_on()
        shown = await versions(room)
        assert [shown[name]["release"] for name in ("dbnode", "api", "node1")] == [
            "9.9.9", release(), release(),
        ]  # fmt: skip
        assert await asyncio.to_thread(room.api.end) == 0
        await room.start_api()
        await soon(lambda: both_up(room))
        await load.goes_on()
        async with replaced(room, "node1", node1):
            await load.goes_on()
            async with replaced(room, "node2", node2):
                await load.goes_on()
                await load.all_done()
                shown = await versions(room)
                assert {one["release"] for one in shown.values()} == {"9.9.9"}
                assert {one["protocol"] for one in shown.values()} == {VERSION}


async def both_up(room: Room) -> bool:
    return await states(room) == {"node1": "up", "node2": "up"}


@asynccontextmanager
async def replaced(room: Room, name: str, before: Process) -> AsyncIterator[None]:
    """Drain a worker, stop it, and run one of the room's release in its place."""
    status, _, _ = await room.ask("POST", f"/workers/{name}/drain?wait=20")
    assert status == 200
    assert await asyncio.to_thread(before.end) == 0
    async with worker(room, name):
        await soon(lambda: both_up(room))
        yield


async def test_another_protocol_version_is_refused_on_both_sides(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = released(tmp_path / "other", "10.0.0", protocol=OTHER)
    log = Log(capfd)
    async with open_room() as room, worker(room, "node1"):
        await room.register()
        await soon(lambda: one_up(room))
        ours, room.tree = room.tree, other
        async with worker(room, "node2") as strange:
            await a_worker_is_refused(room, log, strange)
        await a_dbnode_is_refused(room, log)
        room.tree = ours
        await an_api_waits_for_another_dbnode(room, log)
        assert (await room.invoke("?wait=20", params=PARAMS))[1]["status"] == "DONE"


class Log:
    """What all processes have logged so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._text = ""

    def count(self, words: str) -> int:
        self._text += self._capfd.readouterr().err
        return self._text.count(words)


async def a_worker_is_refused(room: Room, log: Log, strange: Process) -> None:
    said = (
        f"worker node2 (release 10.0.0) speaks protocol version {OTHER}, "
        f"api (release {release()}) speaks {VERSION} (upgrade the older one"
    )
    # Once by each: it asks again and again, and is told so again and again.
    await soon(lambda: log.count(said) == 2)
    shown = (await versions(room))["node2"]
    assert (shown["state"], shown["release"], shown["protocol"]) == ("refused", "10.0.0", OTHER)
    assert shown["reason"] in said
    assert (await states(room)).keys() == {"node1"}
    assert strange.status is None


async def a_dbnode_is_refused(room: Room, log: Log) -> None:
    """Here it is the DB node that refuses an older api; the api waits for another one."""
    assert room.db is not None
    await asyncio.to_thread(room.db.end)
    await room.start_db()
    status, answer = await room.invoke(params=PARAMS)
    said = f"an api speaks protocol version {VERSION}, its DB node speaks {OTHER}"
    assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    await soon(lambda: log.count(f"refused: {said}"))
    shown = await versions(room)
    assert (shown["dbnode"]["state"], shown["dbnode"]["reason"]) == ("silent", said)
    assert room.api is not None
    assert room.api.status is None


async def an_api_waits_for_another_dbnode(room: Room, log: Log) -> None:
    assert room.api is not None
    assert room.db is not None
    await asyncio.to_thread(room.api.end)
    starting = asyncio.ensure_future(room.start_api())
    said = f"an api speaks protocol version {VERSION}, its DB node speaks {OTHER} (upgrade"
    await soon(lambda: log.count(f"waiting for another answer than: {said}"))
    await asyncio.to_thread(room.db.end)
    await room.start_db()
    await starting
    await soon(lambda: one_up(room))


async def test_a_release_installed_under_a_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Log(capfd)
    async with open_room() as room:
        await room.register()
        room.tree = released(tmp_path / "tree", "2.0.0")
        async with worker(room, "node1") as process:
            await soon(lambda: one_up(room))
            speaks(room.tree, OTHER)
            os.kill(zygote_of(process.pid), signal.SIGKILL)
            _, record = await room.invoke(params=PARAMS)
            said = f"its miniworker speaks protocol version {OTHER}, this worker (release "
            await soon(lambda: log.count(said))
            await soon(lambda: log.count("its worker is another release"))
            # Started again it is of one piece, and does what could not begin before.
            assert await asyncio.to_thread(process.end) == 0
        speaks(room.tree, VERSION, before=OTHER)
        async with worker(room, "node1"):
            path = f"/call/{record['callNum']}?wait=20"
            _, record, _ = await room.ask("GET", path)
        assert record["status"] == "DONE", record
        assert record["attempts"][0]["reason"]["code"] == "wrong_version"


async def one_up(room: Room) -> bool:
    return await states(room) == {"node1": "up"}


def zygote_of(pid: int) -> int:
    """Return the pid of a worker's zygote: the child that runs miniworker."""
    for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"zygote" in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
            return int(number)
    pytest.fail(f"worker {pid} has no zygote")
