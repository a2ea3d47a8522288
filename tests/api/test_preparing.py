"""``?prepare=true``: the bundle before the catalogue, told at the end or while it is made."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import aiohttp
import pytest

from api.preparing import least_loaded
from api.roster import Roster, Session
from tests.api.room import Room, ScriptedWorker, open_room, package
from tests.conftest import soon
from wire.messages import Bundle, Bundled, BundleLog, Bye, Hello
from wire.models import Fault, Reason

PATH = "/registerFunction/pythonruntime/dice"
NDJSON = {"Accept": "application/x-ndjson"}
FAILED = Reason(code="install_failed", message="`pip3 …`: it exited with the code 1")


async def ready_room(room: Room) -> None:
    body = {
        "image": "pythonruntime",
        "path": "/ws",
        "dependencies": "pip3 install -r requirements.txt",
        "run": "python3 test.py",
    }
    status, _, _ = await room.ask("POST", "/registerRuntime", body)
    assert status == 201


#: The same bytes each time, though gzip would note when.
packed = functools.cache(package)


def form(text: str = "print(1)", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields)
    data.add_field("module", packed(text), filename="python.tar.gz")
    return data


def packages(room: Room) -> list[str]:
    return sorted(path.name for path in (room.folder / "api/packages").iterdir())


def begin(room: Room, query: str = "?prepare=true", **more: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(room.ask("POST", PATH + query, data=form(), **more))


async def asked(worker: ScriptedWorker) -> Bundle:
    bundle, _ = await worker.next(Bundle)
    return bundle


def asked_one(workers: list[ScriptedWorker]) -> ScriptedWorker | None:
    """Return the worker that was asked and has not looked yet."""
    return next((w for w in workers if any(isinstance(m, Bundle) for m, _ in w.inbox)), None)


def answer(
    worker: ScriptedWorker, bundle: Bundle, fault: Fault = Fault.NONE, **more: Any
) -> None:
    worker.send(Bundled(session=worker.session, ticket=bundle.ticket, fault=fault, **more))


def show(worker: ScriptedWorker, bundle: Bundle, text: str) -> None:
    worker.send(BundleLog(session=worker.session, ticket=bundle.ticket, text=text))


async def test_the_catalogue_changes_when_the_bundle_is_made() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        request = begin(room)
        bundle = await asked(worker)
        assert bundle.spec.function.function_name == "dice"
        assert bundle.spec.runtime.dependencies == "pip3 install -r requirements.txt"
        assert bundle.spec.function.package is not None
        assert packages(room) == [bundle.spec.function.package.sha256]
        assert (await room.ask("GET", "/functions"))[1] == []
        show(worker, bundle, "not asked for")
        answer(worker, bundle)
        status, function, _ = await request
        assert (status, function["revision"]) == (201, 1)
        assert (await room.ask("GET", "/functions"))[1] == ["dice"]


async def test_a_failed_install_changes_nothing_and_leaves_nothing() -> None:
    async with open_room() as room:
        await ready_room(room)
        earlier = (await room.ask("POST", PATH, data=form(description="earlier")))[1]
        before = packages(room)
        worker = await room.worker()
        other = asyncio.create_task(
            room.ask("POST", PATH + "?prepare=true", data=form("print(2)"))
        )
        bundle = await asked(worker)
        assert len(packages(room)) == 2
        answer(worker, bundle, Fault.FUNCTION, reason=FAILED)
        status, body, _ = await other
        assert (status, body["error"]["code"]) == (400, "install_failed")
        assert body["error"]["message"] == FAILED.message
        assert "--ca-bundle" in body["error"]["hint"]
        assert packages(room) == before
        lacking = begin(room)
        absent = Reason(code="image_unavailable", message="the engine has no image 'x'")
        answer(worker, await asked(worker), Fault.FUNCTION, reason=absent)
        status, body, _ = await lacking
        assert (status, body["error"]["message"]) == (400, absent.message)
        assert "the runtime's image" in body["error"]["hint"]
        # The same package as the function has: that one stays.
        again = begin(room)
        answer(worker, await asked(worker), Fault.FUNCTION, reason=FAILED)
        assert (await again)[0] == 400
        assert packages(room) == before
        _, same, _ = await room.ask("POST", PATH, data=form(description="earlier"))
        assert (same["revision"], same["id"]) == (1, earlier["id"])


async def test_the_log_comes_line_by_line_while_it_is_made() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        url = f"{room.url}{PATH}?prepare=true"
        async with room.http.post(url, data=form(), headers=NDJSON) as response:
            assert response.status == 200
            assert response.content_type == "application/x-ndjson"
            bundle = await asked(worker)
            show(worker, bundle, "Collecting é\n")
            assert json.loads(await response.content.readline()) == {"log": "Collecting é\n"}
            show(worker, bundle, "done\n")
            assert json.loads(await response.content.readline()) == {"log": "done\n"}
            answer(worker, bundle)
            last = json.loads(await response.content.readline())
            assert (last["status"], last["function"]["functionName"]) == (201, "dice")
            assert last["function"]["callCount"] == 0
            assert await response.content.readline() == b""


async def test_a_failure_is_the_last_line() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        request = begin(room, headers=NDJSON)
        bundle = await asked(worker)
        show(worker, bundle, "no\n")
        answer(worker, bundle, Fault.FUNCTION, reason=FAILED)
        status, text, _ = await request
        assert status == 200
        first, last = (json.loads(line) for line in text.splitlines())
        assert first == {"log": "no\n"}
        assert set(last) == {"status", "error"}
        assert (last["status"], last["error"]["code"]) == (400, "install_failed")
        await soon(lambda: packages(room) == [])
        assert (await room.ask("GET", "/functions"))[1] == []


async def test_a_client_that_hangs_up_registers_nothing() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        for headers in (NDJSON, {}):
            async with aiohttp.ClientSession() as leaving:
                url = f"{room.url}{PATH}?prepare=true"
                request = asyncio.create_task(leaving.post(url, data=form(), headers=headers))
                bundle = await asked(worker)
                if headers:
                    (await request).close()
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
            # What the worker still says is heard by nobody, and no harm.
            for _ in range(3):
                show(worker, bundle, "still at it\n")
            answer(worker, bundle)
            await soon(lambda: packages(room) == [])
        assert (await room.ask("GET", "/functions"))[1] == []


async def test_one_of_two_with_the_same_package_may_fail() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        requests = [begin(room), begin(room)]
        bundles = [await asked(worker) for _ in requests]
        answer(worker, bundles[0], Fault.FUNCTION, reason=FAILED)
        done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        assert [request.result()[0] for request in done] == [400]
        assert len(packages(room)) == 1
        answer(worker, bundles[1])
        await asyncio.wait(requests)
        assert {request.result()[0] for request in requests} == {400, 201}
        assert len(packages(room)) == 1


@pytest.mark.slow
async def test_a_silent_installer_is_no_silent_answer() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        url = f"{room.url}{PATH}?prepare=true"
        async with room.http.post(url, data=form(), headers=NDJSON) as response:
            bundle = await asked(worker)
            assert json.loads(await response.content.readline()) == {"log": ""}
            answer(worker, bundle)
            assert json.loads(await response.content.readline())["status"] == 201


async def test_without_a_worker_it_says_what_can_be_done() -> None:
    async with open_room() as room:
        await ready_room(room)
        status, body, response = await room.ask("POST", PATH + "?prepare=true", data=form())
        assert (status, body["error"]["code"]) == (503, "no_worker")
        assert "?prepare=false" in body["error"]["hint"]
        assert response.headers["Retry-After"] == "1"
        assert packages(room) == []
        for query in ("", "?prepare=false"):
            assert (await room.ask("POST", PATH + query, data=form()))[0] in (200, 201)
        status, body, _ = await room.ask("POST", PATH + "?prepare=perhaps", data=form())
        assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_a_lost_worker_is_followed_by_another() -> None:
    async with open_room() as room:
        await ready_room(room)
        workers = [await room.worker(f"node{n}") for n in (1, 2)]
        request = begin(room, headers=NDJSON)
        first = await soon(lambda: asked_one(workers))
        second = workers[1 - workers.index(first)]
        first.send(Bye(session=first.session))
        answer(second, await asked(second))
        _, text, _ = await request
        lines = [json.loads(line) for line in text.splitlines()]
        assert f"worker {first.hello.name} was lost" in lines[0]["log"]
        assert lines[-1]["status"] == 201


async def test_when_none_is_left_the_answer_says_so() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        request = begin(room)
        await asked(worker)
        worker.send(Bye(session=worker.session))
        status, body, _ = await request
        assert (status, body["error"]["code"]) == (503, "no_worker")
        assert "worker node1 was lost" in body["error"]["message"]


@pytest.mark.parametrize("code", ["no_space", "no_sandbox"])
async def test_a_node_that_cannot_is_no_fault_of_the_function(code: str) -> None:
    async with open_room() as room:
        await ready_room(room)
        workers = [await room.worker(f"node{n}") for n in (1, 2)]
        request = begin(room)
        reason = Reason(code=code, message="the disk is full")
        for _ in workers:
            one = await soon(lambda: asked_one(workers))
            answer(one, await asked(one), Fault.NODE, reason=reason)
        status, body, _ = await request
        assert (status, body["error"]["code"]) == (503, code)
        assert "the disk is full" in body["error"]["message"]
        assert packages(room) == []


async def test_a_stranger_to_the_ticket_is_not_heard() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker("node1")
        request = begin(room)
        bundle = await asked(worker)
        stranger = await room.worker("node2")
        answer(stranger, bundle)
        answer(worker, bundle, Fault.FUNCTION, reason=FAILED)
        assert (await request)[0] == 400


async def test_an_api_that_stops_lets_nobody_wait() -> None:
    async with open_room() as room:
        await ready_room(room)
        worker = await room.worker()
        request = begin(room)
        await asked(worker)
        assert room.api is not None
        ended = asyncio.create_task(asyncio.to_thread(room.api.end))
        status, body, _ = await request
        assert (status, body["error"]["code"]) == (503, "no_worker")
        assert await ended == 0


def session(number: int, roster: Roster, slots: int = 4, attempts: int = 0) -> Session:
    hello = Hello(
        node_id=f"n{number}", boot="b", name=f"n{number}", pid=1, version="0", slots=slots,
        sandbox="fake", isolation="none",
    )  # fmt: skip
    made = roster.open(b"%d" % number, hello)
    made.attempts.update(dict.fromkeys(range(attempts)))
    return made


def test_the_least_loaded_worker_is_asked() -> None:
    roster = Roster()
    busy = session(1, roster, attempts=4)
    wide = session(2, roster, slots=16, attempts=5)
    bundles: dict[Session, int] = {}

    def choose(*tried: Session) -> Session | None:
        return least_loaded(
            roster.sessions.values(), set(tried), lambda one: bundles.get(one, 0)
        )

    assert choose() is wide
    bundles[wide] = 1
    assert choose() is busy
    assert choose(busy) is wide
    assert choose(busy, wide) is None
