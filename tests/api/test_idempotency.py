"""Idempotency-Key: one key is one call, whatever dies between two requests."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from tests.api.room import Room, open_room
from wire.messages import Recorded, Start

KEY = "3b1f-one-and-only"


async def keyed(
    room: Room, query: str = "", key: str = KEY, **more: Any
) -> tuple[int, Any, bool]:
    """Invoke with a key; return status, body, and whether it was a replay."""
    body = {"funcName": "dice", "params": {"roll": "4d6"}, **more}
    headers = {"Idempotency-Key": key}
    status, answer, response = await room.ask(
        "POST", f"/invokeFunction{query}", body, headers=headers
    )
    return status, answer, response.headers.get("Idempotency-Replayed") == "true"


async def count(room: Room) -> int:
    return len((await room.ask("GET", "/calls"))[1])


async def test_the_same_request_again_is_the_same_call() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        status, first, replayed = await keyed(room)
        assert (status, first["status"], replayed) == (202, "PENDING", False)
        # The same, spelled otherwise.
        async with room.http.post(
            room.url + "/invokeFunction",
            data=b'{"params" : {"roll":"4d6"}, "funcName":"dice"}',
            headers={"Idempotency-Key": KEY, "Content-Type": "application/json"},
        ) as response:
            again = await response.json()
            assert response.status == 202
            assert response.headers["Location"] == f"/call/{first['callNum']}"
            assert response.headers["Idempotency-Replayed"] == "true"
        assert again["id"] == first["id"]
        _, other, replayed = await keyed(room, key="another")
        assert other["callNum"] != first["callNum"]
        assert not replayed
        for more in ({"params": {"roll": "5d6"}}, {"timeout": 9}, {"revision": 1}):
            status, answer, _ = await keyed(room, **more)
            assert (status, answer["error"]["code"]) == (409, "conflict")
            assert f"/call/{first['callNum']}" in answer["error"]["hint"]
        for bad in ("", "with space", "ü", "x" * 256):
            status, answer, _ = await keyed(room, key=bad)
            assert (status, answer["error"]["code"]) == (400, "bad_request"), bad
        assert await count(room) == 2


async def test_requests_at_once_are_one_call_and_wait_for_the_same_end() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        asking = [asyncio.ensure_future(keyed(room, "?wait=20")) for _ in range(12)]
        worker.credit(12, dice=12)
        start, _ = await worker.start()
        worker.result(start.call, 1)
        answers = [await each for each in asking]
        assert {(status, answer["callNum"]) for status, answer, _ in answers} == {
            (200, start.call)
        }
        assert sum(not replayed for _, _, replayed in answers) == 1
        assert worker.take(Start) is None
        assert await count(room) == 1
        status, answer, replayed = await keyed(room, "?wait=5")
        assert (status, answer["result"], replayed) == (200, "[4,6,4,3]", True)


async def test_a_waiting_call_with_a_key_is_durable_before_it_starts() -> None:
    """The DB node is gone: without a key such a call starts, with one it may not."""
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(4, dice=4)
        # A lease of numbers is there before the DB node stands still.
        assert (await room.invoke("?wait=0.01"))[0] == 202
        await worker.start()
        assert room.db is not None
        asking = asyncio.ensure_future(keyed(room, "?wait=20"))
        start, _ = await worker.start()
        worker.result(start.call, 1)
        assert (await asking)[0] == 200
        room.db.end(signal.SIGKILL)
        bare = asyncio.ensure_future(room.invoke("?wait=20"))
        keyless, _ = await worker.start()
        worker.result(keyless.call, 1)
        assert (await bare)[0] == 200
        status, answer, _ = await keyed(room, "?wait=20", key="later")
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")
        assert worker.take(Start) is None
        # Refused, so the key is free: the next request is the first.
        await room.start_db()
        asking = asyncio.ensure_future(keyed(room, "?wait=20", key="later"))
        start, _ = await worker.start()
        worker.result(start.call, 1)
        status, answer, replayed = await asking
        assert (status, answer["callNum"], replayed) == (200, start.call, False)


async def test_a_refused_request_leaves_its_key_free() -> None:
    async with open_room() as room:
        await room.register()
        status, answer, _ = await keyed(room)
        assert (status, answer["error"]["code"]) == (503, "no_worker")
        status, answer, _ = await keyed(room, funcName="nope")
        assert status == 404
        await room.worker()
        status, _, replayed = await keyed(room, params=[1])
        assert (status, replayed) == (202, False)


async def test_a_key_survives_the_death_of_the_api_and_of_the_db_node() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        _, first, _ = await keyed(room)
        assert room.api is not None
        assert room.db is not None
        room.api.end(signal.SIGKILL)
        room.db.end(signal.SIGKILL)
        worker.close()
        await room.start_db()
        await room.start_api()
        worker = await room.worker(node_id="id-node1", boot="boot2")
        status, answer, replayed = await keyed(room)
        assert (status, answer["id"], replayed) == (202, first["id"], True)
        worker.credit(4, dice=4)
        asking = asyncio.ensure_future(keyed(room, "?wait=20"))
        start, _ = await worker.start()
        assert start.call == first["callNum"]
        worker.result(start.call, start.attempt)
        status, answer, replayed = await asking
        assert (status, answer["status"], replayed) == (200, "DONE", True)
        # Only what is durable outlives this.
        await worker.next(Recorded)
        room.api.end(signal.SIGKILL)
        await room.start_api()
        status, answer, replayed = await keyed(room, "?wait=5")
        assert (status, answer["status"], replayed) == (200, "DONE", True)
        assert (await keyed(room, params=1))[0] == 409
        assert await count(room) == 1


async def test_an_api_killed_at_any_moment_makes_no_second_call() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        for round_ in range(4):
            key = f"round-{round_}"
            asking = [asyncio.ensure_future(keyed(room, key=key)) for _ in range(3)]
            for _ in range(round_ * 5):
                await asyncio.sleep(0)
            api = room.api
            assert api is not None
            api.end(signal.SIGKILL)
            await asyncio.gather(*asking, return_exceptions=True)
            await room.start_api()
            await room.worker(boot=f"boot-{round_}")
            _, answer, _ = await keyed(room, key=key)
            _, again, replayed = await keyed(room, key=key)
            assert (again["callNum"], replayed) == (answer["callNum"], True)
        _, calls, _ = await room.ask("GET", "/calls")
        assert len(calls) == 4
