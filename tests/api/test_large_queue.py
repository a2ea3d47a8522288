"""More params wait than memory has room for: real processes, a worker by script."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from typing import Any

import pytest

from tests.api.room import Room, ScriptedWorker, open_room
from tests.conftest import soon
from wire.messages import Chunk, Fetch, Recorded, Start

#: Eighty MiB go through four processes, of which a busy machine makes a long work.
pytestmark = pytest.mark.timeout(180)

#: So many of this size are over the 64 MiB for params.
SIZE = 6_000_000
CALLS = 14
LIMIT = 64 << 20


def params(num: int) -> dict[str, Any]:
    return {"num": num, "filling": f"{num:04d}" * (SIZE // 4)}


async def invoke(room: Room, params: Any, query: str = "") -> tuple[int, Any]:
    body = io.BytesIO(json.dumps({"funcName": "dice", "params": params}).encode())
    headers = {"Content-Type": "application/json"}
    path = f"/invokeFunction{query}"
    status, answer, _ = await room.ask("POST", path, data=body, headers=headers)
    return status, answer


async def queue(room: Room) -> list[int]:
    """Queue them all for a worker that has no room; return their numbers."""
    numbers = []
    for num in range(CALLS):
        status, call = await invoke(room, params(num))
        assert status == 202, call
        numbers.append(call["callNum"])
    return numbers


async def serve(worker: ScriptedWorker, numbers: list[int]) -> None:
    """Run every call, in the order of acceptance, with its own params."""
    for num, number in enumerate(numbers):
        worker.credit(1, dice=1)
        start, _ = await worker.start()
        assert start.call == number
        assert start.size > SIZE
        assert f'"num": {num},'.encode() in await beginning(worker, start)
        worker.result(start.call, start.attempt)


async def beginning(worker: ScriptedWorker, start: Start) -> bytes:
    """Fetch the first bytes of the params."""
    key = f"{start.call}.{start.attempt}"
    fetch = Fetch(session=worker.session, what="params", key=key, offset=0, credit=64)
    worker.send(fetch)
    chunk, piece = await worker.next(Chunk)
    assert (chunk.key, chunk.total, chunk.error) == (key, start.size, None)
    return piece


async def queue_bytes(room: Room) -> float:
    _, text, _ = await room.ask("GET", "/metrics")
    (line,) = (each for each in text.splitlines() if each.startswith("skep_queue_bytes"))
    return float(line.split()[-1])


async def test_what_memory_has_no_room_for_waits_in_the_store() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        numbers = await queue(room)
        assert await queue_bytes(room) <= LIMIT
        # All of it is shown, and listed, wherever it is.
        _, last, _ = await room.ask("GET", f"/call/{numbers[-1]}")
        assert last["params"] == params(CALLS - 1)
        _, listed, _ = await room.ask("GET", "/calls?limit=2&order=desc")
        assert [call["params"]["num"] for call in listed.values()] == [CALLS - 1, CALLS - 2]
        # Cancelled before it was read: its record is whole.
        status, ended, _ = await room.ask("DELETE", f"/call/{numbers.pop()}")
        assert (status, ended["status"], ended["params"]["num"]) == (
            200,
            "CANCELLED",
            CALLS - 1,
        )
        await serve(worker, numbers)
        await worker.next(Recorded)
        for num in (0, CALLS - 2):
            _, ended, _ = await room.ask("GET", f"/call/{numbers[num]}?wait=10")
            assert (ended["status"], ended["params"]) == ("DONE", params(num))


async def test_a_new_life_of_the_api_reads_no_more_than_it_has_room_for() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        numbers = await queue(room)
        assert room.api is not None
        await asyncio.to_thread(room.api.end, signal.SIGKILL)
        await room.start_api()
        worker = await room.worker("node2")
        assert await queue_bytes(room) <= LIMIT
        await serve(worker, numbers)


async def test_the_store_may_be_away_while_params_are_to_be_read() -> None:
    async with open_room() as room:
        await room.register("dice", idempotent="true")
        worker = await room.worker()
        numbers = await queue(room)
        assert room.db is not None
        await asyncio.to_thread(room.db.end, signal.SIGKILL)
        serving = asyncio.ensure_future(serve(worker, numbers))
        await asyncio.sleep(0.5)
        await room.start_db()
        await serving
        _, ended, _ = await room.ask("GET", f"/call/{numbers[-1]}?wait=10")
        assert (ended["status"], ended["params"]) == ("DONE", params(CALLS - 1))


async def test_synchronous_calls_that_the_store_does_not_have_are_refused_in_time() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        large = {"filling": "x" * (5 << 20)}
        asking = [asyncio.ensure_future(invoke(room, large, "?wait=20")) for _ in range(15)]
        fits = LIMIT // (5 << 20)
        await soon(lambda: sum(task.done() for task in asking) == len(asking) - fits)
        refused = [task.result() for task in asking if task.done()]
        assert {status for status, _ in refused} == {429}
        waiting = [task for task in asking if not task.done()]
        # What the store has while it waits is let in all the same.
        assert (await invoke(room, large))[0] == 202
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
