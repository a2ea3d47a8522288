"""What a worker counts and logs of attempts whose endings are known, and of what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.worker.scripted import ScriptedApi, Worker, items, node, package
from wire import messages as m
from wire.codec import encode
from wire.models import Fault, Reason, Status

Samples = dict[tuple[str, ...], float]
SCRAPED = ("--metrics-port", "0")


async def scrape(worker: Worker) -> Samples:
    """Return every sample by its name and the values of its labels, in their order by name."""
    url = worker.ready.get("metrics") or (await worker.started())["metrics"]
    text = (await asyncio.to_thread(httpx.get, url)).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(worker: Worker, condition: Callable[[Samples], bool]) -> Samples:
    """Return the samples once they are as they have to become."""
    for _ in range(500):
        if condition(seen := await scrape(worker)):
            return seen
        await asyncio.sleep(0.02)
    raise AssertionError("it never became so")


async def joined(api: ScriptedApi, **settings: object) -> None:
    data = package()
    api.packages[hashlib.sha256(data).hexdigest()] = data
    await api.welcome(*items(data, **settings))  # type: ignore[arg-type]


async def status(api: ScriptedApi, call: int, params: object = None) -> Status:
    result, _ = await api.call(call, params)
    assert result.outcome is not None
    return result.outcome.status


async def test_attempts_are_counted_by_their_endings(tmp_path: Path) -> None:
    with node(tmp_path / "d", "--log-level", "debug", *SCRAPED) as (api, worker):
        await joined(api)
        assert await status(api, 1) is Status.DONE
        assert await status(api, 2, {"garble": True}) is Status.FAILED
        assert await status(api, 3, {"die": True}) is Status.LOST
        assert await status(api, 4) is Status.DONE
        api.say(m.Cancel(session=1, call=9, attempt=1, reason=Reason(code="x", message="")))
        await api.get(m.Returned)
        seen = await scrape(worker)
        counted = {"DONE": 2, "FAILED": 1, "LOST": 1, "TIMEOUT": 0, "OOM": 0, "RETURNED": 1}
        for ending, count in counted.items():
            assert seen["skep_worker_attempts_total", ending] == count, ending
        assert seen["skep_worker_protocol_violations_total",] == 1
        assert seen["skep_worker_spawns_total",] == 3
        assert seen["skep_worker_bundle_requests_total", "miss"] == 1
        assert seen["skep_worker_bundle_requests_total", "hit"] == 2
        assert seen["skep_worker_unrecorded_results",] == 4
        assert seen["skep_worker_slots",] == seen["skep_worker_free_slots",] == 2
        log = (tmp_path / "d" / "worker.log").read_text()
        assert "DEBUG   worker.diary n1 call=1 attempt=1 function=echo: ended DONE on m1" in log
        assert "WARNING worker.diary n1: m1 broke the protocol" in log
        api.say(m.Recorded(session=1, upto=4))
        await until(worker, lambda now: now["skep_worker_unrecorded_results",] == 0)


async def test_a_sandbox_that_has_to_be_killed_is_told_by_its_call(tmp_path: Path) -> None:
    with node(tmp_path / "d", *SCRAPED) as (api, worker):
        await joined(api)
        api.prepare(7)
        await api.get(m.Ready)
        api.start(7, {"deaf": True}, timeout_ms=1000)
        result, _ = await api.end(7)
        assert result.outcome is not None
        assert result.outcome.status is Status.TIMEOUT
        seen = await scrape(worker)
        assert seen["skep_worker_attempts_total", "TIMEOUT"] == 1
        log = (tmp_path / "d" / "worker.log").read_text()
        assert re.search(
            r"^\S+Z INFO    worker\.diary n1 call=7 attempt=1 function=echo: "
            r"ended TIMEOUT on m1: timeout: it ran longer than 1 s$",
            log,
            re.MULTILINE,
        )


async def test_garbage_of_an_api_is_counted_and_breaks_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "d", *SCRAPED) as (api, worker):
        await joined(api)
        good = encode(m.ApiHeartbeat(session=1, epoch="store-1", seq=2, received=0))
        api.link.send([api.peer, b"\xa5\x01\xff", b"", b""])
        api.link.send([api.peer, good[0], b"\xc1", b""])
        api.link.send([api.peer, *good, b"one too many"])
        assert await status(api, 1) is Status.DONE
        seen = await scrape(worker)
        assert seen["skep_dropped_messages_total", "garbage", "api"] == 2
        assert seen["skep_dropped_messages_total", "frames", "api"] == 1
        api.say_who()
        await api.welcome(session=2)
        seen = await until(worker, lambda now: now["skep_worker_sessions_total",] == 2)
        assert seen["skep_dropped_messages_total", "garbage", "api"] == 2, "of all sessions"


async def test_installs_are_counted_timed_and_logged(tmp_path: Path) -> None:
    with node(tmp_path / "d", *SCRAPED, sandbox="process") as (api, worker):
        await joined(api, dependencies="echo no such package; exit 3")
        api.prepare(1)
        returned = await api.get(m.Returned)
        assert returned.fault is Fault.FUNCTION
        seen = await scrape(worker)
        assert seen["skep_worker_builds_total", "failed"] == 1
        assert seen["skep_worker_builds_total", "done"] == 0
        assert seen["skep_worker_build_seconds_count",] == 1
        assert seen["skep_worker_faults_total", "function"] == 1
        log = (tmp_path / "d" / "worker.log").read_text()
        assert re.search(r"n1 function=echo: dependencies not installed in \d+\.\d s: ", log)
        assert re.search(r"n1 call=1 attempt=1: returned, the function's fault: install_", log)


async def test_what_goes_to_make_room_is_counted(tmp_path: Path) -> None:
    options = ("--cache-bytes", "1", "--max-warm", "2", *SCRAPED)
    with node(tmp_path / "d", *options) as (api, worker):
        data = package()
        api.packages[hashlib.sha256(data).hexdigest()] = data
        catalogue = [*items(data), *items(data, name="two", seq=3)[1:]]
        catalogue += items(data, name="three", seq=4)[1:]
        await api.welcome(*catalogue)
        for number, name in enumerate(("echo", "two", "three"), 1):
            api.prepare(number, key=f"default/{name}@1.1")
            await api.get(m.Ready, number)
            api.start(number, key=f"default/{name}@1.1")
            await api.end(number)
        seen = await until(worker, lambda now: now["skep_worker_evictions_total", "cache"] > 0)
        assert seen["skep_worker_evictions_total", "sandbox"] == 1
