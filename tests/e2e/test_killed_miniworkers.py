"""Miniworkers killed under load: every call ends once, whatever each took with it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import children, soon
from tests.e2e.test_alone import FREE, process
from tests.worker.scripted import package
from tests.worker.test_node import is_miniworker

#: Each kill waits for calls to end, on whatever machine there is.
pytestmark = pytest.mark.timeout(240)

SLOTS = 3
CLIENTS = 16
CALLS = 40
KILLS = 15


async def test_every_call_ends_once_while_miniworkers_are_killed(tmp_path: Path) -> None:
    before = children()
    with ExitStack() as stack:
        _, db = stack.enter_context(process(tmp_path, "dbnode", "--bind", FREE))
        at = ("--port", "0", "--workers-bind", FREE, "--pub-bind", FREE, "--db", db["endpoint"])
        _, api = stack.enter_context(process(tmp_path, "api", *at))
        join = ("--name", "n1", "--api", api["workers"], "--pub", api["pub"])
        options = ("--sandbox", "fake", "--slots", str(SLOTS))
        worker, _ = stack.enter_context(process(tmp_path, "worker", *join, *options))
        async with aiohttp.ClientSession(api["url"]) as http:
            await register(http, "once")
            await register(http, "again", idempotent="true")
            calls: list[dict[str, Any]] = []
            load = [asyncio.ensure_future(client(http, n, calls)) for n in range(CLIENTS)]
            await kill_some(worker.pid, calls)
            await asyncio.gather(*load)
            judge(calls)
            for call in calls:
                # What was answered is what is stored, and stays so.
                async with http.get(f"/call/{call['callNum']}") as response:
                    assert (await response.json()) == call
    assert not children() - before


async def register(http: aiohttp.ClientSession, name: str, **settings: str) -> None:
    runtime = {"name": "python", "image": "python", "path": "/ws", "run": "python3 test.py"}
    async with http.post("/registerRuntime", json=runtime) as response:
        assert response.status in (200, 201), await response.text()
    form = aiohttp.FormData(settings)
    form.add_field("module", package(), filename="p.zip")
    async with http.post(f"/registerFunction/python/{name}", data=form) as response:
        assert response.status == 201, await response.text()


async def client(http: aiohttp.ClientSession, which: int, calls: list[dict[str, Any]]) -> None:
    """Call, wait, call: mostly fast ones, so that some wait behind others, and slow ones."""
    for n in range(CALLS):
        slow = {"sleep_s": 0.03} if n % 10 == which % 10 else {}
        body = {"funcName": ("once", "again")[n % 2], "params": {"n": n, **slow}}
        async with http.post("/invokeFunction?wait=40", json=body) as response:
            assert response.status == 200, await response.text()
            calls.append(await response.json())


async def kill_some(worker: int, calls: list[dict[str, Any]]) -> None:
    """Kill a miniworker each time that so many calls more have ended."""
    for kill in range(1, KILLS + 1):
        ended = kill * CLIENTS * CALLS // (KILLS + 2)
        await soon(partial(has, calls, ended), 60, what=f"{ended} calls have ended")
        living = await soon(lambda: miniworkers(worker), what="there is a miniworker")
        os.kill(random.choice(living), signal.SIGKILL)


def has(calls: list[dict[str, Any]], count: int) -> bool:
    return len(calls) >= count


def miniworkers(worker: int) -> list[int]:
    """Return the pids of the miniworkers of a worker."""
    pids = []
    for pid in children():
        with suppress(OSError):
            if is_miniworker(pid, worker):
                pids.append(pid)
    return pids


def judge(calls: list[dict[str, Any]]) -> None:
    assert len({call["callNum"] for call in calls}) == CLIENTS * CALLS
    ended = Counter((call["funcName"], call["status"]) for call in calls)
    assert set(ended) <= {(n, s) for n in ("once", "again") for s in ("DONE", "LOST")}
    for call in calls:
        last = call["attempts"][-1]
        assert (last["status"], last["reason"]) == (call["status"], call["reason"])
        begun = [a for a in call["attempts"] if a["status"] is not None]
        assert len(begun) == 1 or call["funcName"] == "again"
        # Each moment of a record is rounded to a millisecond.
        assert sum(call["stages"].values()) <= whole_ms(call) + 1, call
        assert all(attempt["way"] and attempt["why"] for attempt in call["attempts"])
        if call["status"] == "LOST":
            assert call["reason"]["code"] == "sandbox_lost"
    cold = [call for call in calls if call["start"] == "cold"]
    # Not of each: a sandbox may have been begun for another call.
    assert any({"fetch", "sandbox", "load", "run"} <= call["stages"].keys() for call in cold)


def whole_ms(call: dict[str, Any]) -> float:
    accepted, finished = (
        datetime.fromisoformat(call[name]) for name in ("acceptedAt", "finishedAt")
    )
    return (finished - accepted).total_seconds() * 1000
