"""GET /metrics of a real api: what it counted of calls whose endings are known."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from api.tally import OTHERS
from tests.api.room import Room, ScriptedWorker, open_room
from tests.conftest import soon
from wire import codec
from wire.messages import Outcome, Prepare, Ready, Returned
from wire.models import Reason, Status

Numbers = dict[tuple[str, ...], float]
STAGE = "skep_call_stage_seconds"
LAG = "skep_store_oldest_unrecorded_age_seconds"
FAILED = Outcome(status=Status.FAILED, reason=Reason(code="raised", message="no"))


async def scrape(room: Room, **more: Any) -> Numbers:
    """Return every sample by its name and the values of its labels, in their order by name."""
    status, text, response = await room.ask("GET", "/metrics", **more)
    assert status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def call(room: Room, worker: ScriptedWorker, outcome: Outcome | None = None) -> int:
    """Make a warm call that ends as told; return its number."""
    # One credit only: a call that came before it is counted waits, and starts nothing cold.
    worker.credit(1, dice=1)
    asking = asyncio.ensure_future(room.invoke("?wait=10"))
    start, _ = await worker.start()
    worker.result(start.call, start.attempt, outcome=outcome)
    await asking
    return start.call


async def test_calls_of_known_endings_are_counted_each_once() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        for outcome in (None, None, FAILED):
            await call(room, worker, outcome)
        seen = await scrape(room)
        assert seen["skep_calls_total", "dice", "DONE"] == 2
        assert seen["skep_calls_total", "dice", "FAILED"] == 1
        assert seen["skep_starts_total", "idle"] == 3
        assert seen["skep_starts_total", "cold"] == 0
        assert seen["skep_warm_hit_ratio",] == 1
        assert seen["skep_attempts_total", "DONE"] == 2
        assert seen["skep_attempts_total", "FAILED"] == 1
        for stage in ("queued", "prepare", "run", "total"):
            assert seen[f"{STAGE}_count", stage] == 3
        assert seen[f"{STAGE}_sum", "run"] == 0.006
        assert seen["skep_call_run_seconds_total", "dice"] == 0.006
        assert seen["skep_http_requests_total", "POST", "/invokeFunction", "200"] == 3
        assert seen["skep_http_request_seconds_count", "/invokeFunction"] == 3
        assert seen["skep_workers", "up"] == 1
        assert seen["skep_slots", "node1"] == 4
        assert seen["skep_packages",] == 1
        assert seen["skep_catalogue_seq",] == 2
        assert seen["skep_store_request_seconds_count", "catalogue"] == 4


async def test_a_cold_start_that_is_tried_twice() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        await room.invoke()
        seen = await scrape(room)
        assert seen["skep_queue_calls",] == 1
        assert seen["skep_queue_bytes",] == len('{"roll": "4d6"}')
        assert seen["skep_queue_function_calls", "dice"] == 1
        assert seen["skep_queue_function_calls", OTHERS] == 0
        worker.credit(1)
        prepare, _ = await worker.next(Prepare)
        worker.send(Returned(session=worker.session, call=prepare.call, attempt=1))
        worker.seen += 1
        worker.credit(1)
        await worker.next(Prepare)
        worker.send(Ready(session=worker.session, call=prepare.call, attempt=2))
        start, _ = await worker.start()
        worker.result(start.call, start.attempt)
        await room.ask("GET", f"/call/{start.call}?wait=10")
        seen = await scrape(room)
        assert seen["skep_attempts_total", "RETURNED"] == 1
        assert seen["skep_attempts_total", "DONE"] == 1
        assert seen["skep_starts_total", "cold"] == 1
        assert seen["skep_warm_hit_ratio",] == 0
        assert seen["skep_queue_calls",] == 0
        assert seen["skep_http_requests_total", "GET", "/call/{num}", "200"] == 1


async def test_a_deleted_function_has_no_series_and_its_counts_are_kept() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        await call(room, worker)
        await room.ask("DELETE", "/functions/dice")
        seen = await scrape(room)
        assert seen["skep_calls_total", OTHERS, "DONE"] == 1
        assert seen["skep_call_run_seconds_total", OTHERS] == 0.003
        assert not [key for key in seen if "dice" in key]


async def test_refusals_by_code_and_paths_that_anyone_may_invent() -> None:
    async with open_room() as room:
        await room.register()
        assert (await room.invoke())[0] == 503
        for number in range(20):
            await room.ask("GET", f"/no/such/path/{number}")
            await room.ask("GET", f"/call/{number + 1}")
        await room.ask("PROPFIND", "/calls")
        seen = await scrape(room)
        assert seen["skep_http_refusals_total", "no_worker"] == 1
        assert seen["skep_http_refusals_total", "unknown_call"] == 20
        assert seen["skep_http_requests_total", "GET", "_none", "404"] == 20
        assert seen["skep_http_requests_total", "GET", "/call/{num}", "404"] == 20
        assert seen["skep_http_requests_total", "_other", "_none", "405"] == 1


async def test_garbage_of_a_worker_is_counted_and_breaks_nothing() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        head = bytes((codec.MAGIC, codec.VERSION, 2))
        worker.send_raw(head, b"\xc1 no MessagePack", b"")
        worker.send_raw(b"nonsense", b"", b"")
        worker.send_raw(b"two", b"frames")
        worker.send_raw(*[b"x"] * 40)
        await call(room, worker)
        seen = await scrape(room)
        assert seen["skep_dropped_messages_total", "garbage", "workers"] == 2
        assert seen["skep_dropped_messages_total", "frames", "workers"] == 2
        assert seen["skep_calls_total", "dice", "DONE"] == 1


async def test_the_store_lags_while_the_db_node_stands_still() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        await call(room, worker)
        assert room.db is not None

        async def lag() -> float:
            return (await scrape(room))[LAG,]

        async def has_stored_all() -> bool:
            return await lag() == 0

        async def has_asked_again() -> bool:
            return (await scrape(room))["skep_store_retries_total", "writes"] == 1

        await soon(has_stored_all)
        os.kill(room.db.pid, signal.SIGSTOP)
        try:
            await call(room, worker)
            first = await lag()
            assert first > 0
            await soon(has_asked_again)
            seen = await scrape(room)
            assert seen[LAG,] >= first + 0.5
            assert seen["skep_store_outbox_records",] == 1
            assert seen["skep_store_outbox_bytes",] > 0
        finally:
            os.kill(room.db.pid, signal.SIGCONT)
        await soon(has_stored_all)
        assert (await scrape(room))["skep_store_outbox_records",] == 0


async def test_metrics_are_behind_the_token() -> None:
    async with open_room("--token", "s3cret") as room:
        assert (await room.ask("GET", "/metrics"))[0] == 401
        seen = await scrape(room, headers={"Authorization": "Bearer s3cret"})
        assert seen["skep_http_refusals_total", "unauthorized"] == 1
