"""POST /invokeFunctions: many calls in one request, each for itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.api.room import Room, open_room
from tests.conftest import soon

NDJSON = {"Content-Type": "application/x-ndjson"}
GOOD = b'{"funcName": "dice", "params": {"roll": "4d6"}}'


async def send(
    room: Room, body: bytes | AsyncIterator[bytes], query: str = ""
) -> tuple[int, list[dict[str, Any]]]:
    """Send lines; return the status and the lines of the answer in order of their index."""
    url = room.url + "/invokeFunctions" + query
    async with room.http.post(url, data=body, headers=NDJSON) as response:
        lines = [json.loads(line) async for line in response.content]
        return response.status, sorted(lines, key=lambda line: line["index"])


async def test_each_line_is_accepted_or_refused_by_itself() -> None:
    async with open_room("--max-params", "1000") as room:
        await room.register()
        await room.worker()
        lines = [
            GOOD,
            b"",
            b"{nonsense",
            b'{"funcName": "nobody"}',
            b'{"funcName": "dice", "colour": 1}',
            b'{"funcName": "dice", "params": "%s"}' % (b"x" * 2000),
            b'{"funcName": "dice", "params": %s}' % (b"[" * 300 + b"]" * 300),
            b'{"funcName": "dice", "idempotencyKey": "one"}',
            b'{"funcName": "dice", "idempotencyKey": "one"}',
            b'{"funcName": "dice", "idempotencyKey": "one", "timeout": 9}',
            b"\xff",
            GOOD,
        ]
        status, said = await send(room, b"\n".join(lines))
        assert status == 200
        assert [line["index"] for line in said] == [0, *range(2, 12)]
        by_index = {line["index"]: line for line in said}
        assert [line["status"] for line in said] == [
            202, 400, 404, 400, 413, 400, 202, 202, 409, 400, 202,
        ]  # fmt: skip
        assert "colour" in by_index[4]["error"]["message"]
        assert by_index[3]["error"]["code"] == "unknown_function"
        assert by_index[3]["error"]["hint"]
        assert by_index[7]["callNum"] == by_index[8]["callNum"]
        numbers = {line["callNum"] for line in said if line["status"] == 202}
        assert len(numbers) == 3
        # They are durable, and calls as all others.
        assert room.api is not None
        await asyncio.to_thread(room.api.end)
        await room.start_api()
        _, calls, _ = await room.ask("GET", "/calls")
        assert {call["callNum"] for call in calls.values()} == numbers


async def test_lines_come_as_calls_end_and_the_body_goes_on_meanwhile() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker(slots=4)
        worker.credit(4, dice=4)
        go_on: asyncio.Queue[bytes] = asyncio.Queue()

        async def body() -> AsyncIterator[bytes]:
            while line := await go_on.get():
                yield line

        url = room.url + "/invokeFunctions?wait=20"
        # A line is told apart from the next by its end, wherever its pieces were cut.
        go_on.put_nowait(GOOD[:10])
        go_on.put_nowait(GOOD[10:] + b"\n" + GOOD + b"\n")
        async with room.http.post(url, data=body(), headers=NDJSON) as response:
            (first, _), (second, _) = await worker.start(), await worker.start()
            worker.result(second.call, second.attempt)
            line = json.loads(await response.content.readline())
            assert (line["status"], line["callNum"]) == (200, second.call)
            assert line["call"]["status"] == "DONE"
            go_on.put_nowait(GOOD)
            go_on.put_nowait(b"")
            third, _ = await worker.start()
            worker.result(first.call, first.attempt)
            worker.result(third.call, third.attempt)
            rest = [json.loads(line) async for line in response.content]
            assert {line["callNum"] for line in rest} == {first.call, third.call}
            assert {line["index"] for line in (*rest, line)} == {0, 1, 2}


async def test_a_full_queue_is_waited_for() -> None:
    async with open_room("--queue", "3") as room:
        await room.register()
        worker = await room.worker(slots=1)

        async def work() -> None:
            for _ in range(20):
                worker.credit(1, dice=1)
                start, _ = await worker.start()
                worker.result(start.call, start.attempt)

        working = asyncio.create_task(work())
        status, said = await send(room, b"\n".join([GOOD] * 20), "?wait=30")
        await working
        assert status == 200
        assert [line["status"] for line in said] == [200] * 20


async def test_who_hangs_up_cancels_nothing() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker(slots=1)
        worker.credit(1, dice=1)
        url = room.url + "/invokeFunctions?wait=60"
        async with room.http.post(url, data=GOOD + b"\n", headers=NDJSON) as response:
            begun, _ = await worker.start()
            response.close()
        worker.result(begun.call, begun.attempt)
        _, call, _ = await room.ask("GET", f"/call/{begun.call}?wait=10")
        assert call["status"] == "DONE"


async def test_what_is_no_batch_is_refused_before_it_is_read() -> None:
    async with open_room() as room:
        url = room.url + "/invokeFunctions"
        for headers in (
            {"Content-Type": "application/json"},
            {"Content-Type": "text/plain"},
            NDJSON | {"Idempotency-Key": "k"},
        ):
            async with room.http.post(url, data=GOOD, headers=headers) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (400, "bad_request")
                assert error["hint"]
        assert await send(room, b"") == (200, [])
        assert await send(room, b"\n\n  \n") == (200, [])
        headers = NDJSON | {"Origin": "http://elsewhere"}
        async with room.http.post(url, data=GOOD, headers=headers) as response:
            assert response.status == 403


async def test_a_body_that_stops_ends_in_a_line_that_says_so() -> None:
    async with open_room("--upload-stall", "1") as room:
        await room.register()
        await room.worker()
        never = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield GOOD + b"\n" + GOOD
            await never.wait()

        sending = asyncio.create_task(send(room, body()))
        await soon(sending.done)
        _, said = await sending
        assert [line["status"] for line in said] == [202, 408]
        assert said[1]["error"]["code"] == "stalled"
