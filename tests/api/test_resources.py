"""Runtimes and functions as resources: shown, changed, removed; older revisions still run."""

from __future__ import annotations

import asyncio
import io
import signal
from typing import Any

import aiohttp
from msgspec.structs import fields

from api.bodies import HTTP_SETTINGS, FunctionSettings
from tests.api.room import Room, ScriptedWorker, open_room, package
from tests.conftest import soon
from wire.messages import Cancel, Catalogue, Sync, Warm

ALL: dict[str, Any] = {
    "entry": "dice.roll",
    "timeout": 9.5,
    "memory": 64,
    "cpu": 0.5,
    "env": {"A": "1"},
    "network": True,
    "idempotent": True,
    "retries": 2,
    "isolation": "fork",
    "preload": "function",
    "minWarm": 1,
    "maxWarm": 4,
    "idle": 30.0,
    "maxConcurrency": 3,
    "maxWait": 60.0,
    "policy": "round-robin",
    "requires": {"gpu": "1"},
    "bakedImage": "registry.example:5000/dice:1",
    "description": "rolls",
}


async def patch(room: Room, body: Any) -> tuple[int, Any]:
    status, answer, _ = await room.ask("PATCH", "/functions/dice", body)
    return status, answer


async def test_every_setting_is_accepted_stored_and_shown() -> None:
    names = {field.encode_name for field in fields(FunctionSettings)}
    # Those of servers are refused here; test_images has them.
    assert set(ALL) == names - {"run", *HTTP_SETTINGS}
    async with open_room() as room:
        await room.register()
        status, answer = await patch(room, ALL)
        assert status == 200
        assert {name: answer[name] for name in ALL} == ALL
        assert room.api is not None
        room.api.end(signal.SIGKILL)
        await room.start_api()
        _, answer, _ = await room.ask("GET", "/functions/dice")
        assert {name: answer[name] for name in ALL} == ALL
        assert (answer["revision"], answer["callCount"]) == (2, 0)
        # null is the default again; what is absent stays.
        status, answer = await patch(room, dict.fromkeys(names - {"memory"}))
        first = (await room.ask("GET", "/functions/dice?revision=1"))[1]
        assert answer["memory"] == 64
        assert {n: answer[n] for n in names - {"memory"}} == {
            n: first[n] for n in names - {"memory"}
        }


async def test_a_patch_changes_what_it_says_and_nothing_else() -> None:
    async with open_room() as room:
        await room.register()
        _, before, _ = await room.ask("GET", "/functions/dice")
        status, answer = await patch(room, {"timeout": 30})
        assert (status, answer["revision"], answer["timeout"]) == (200, 2, 30.0)
        assert answer["package"] == before["package"]
        assert answer["id"] == before["id"]
        assert answer["createdAt"] == before["createdAt"]
        status, again = await patch(room, {"timeout": 30.0})
        assert (status, again["revision"]) == (200, 2)
        assert again["updatedAt"] == answer["updatedAt"]
        assert (await patch(room, {}))[1]["revision"] == 2
        assert (await patch(room, {"entry": "a.b"}))[1]["entry"] == "a.b"
        ran = (await patch(room, {"run": "sh x"}))[1]
        assert (ran["entry"], ran["run"], ran["timeout"]) == (None, "sh x", 30.0)

        form = aiohttp.FormData({"timeout": "null", "memory": "128"})
        form.add_field("module", io.BytesIO(package("2")), filename="two.tgz")
        status, answer, _ = await room.ask("PATCH", "/functions/dice", data=form)
        assert (status, answer["timeout"], answer["memory"]) == (200, 5.0, 128)
        assert answer["package"]["originalname"] == "two.tgz"
        form = aiohttp.FormData({"cpu": "2"}, default_to_multipart=True)
        status, answer, _ = await room.ask("PATCH", "/functions/dice", data=form)
        assert (status, answer["cpu"]) == (200, 2.0)
        assert answer["package"]["originalname"] == "two.tgz"


async def test_a_bad_patch_is_named_and_changes_nothing() -> None:
    async with open_room() as room:
        await room.register()
        for body, named in (
            ({"colour": 1}, "colour"),
            ({"timeout": 0}, "timeout"),
            ({"timeout": ""}, "timeout"),
            ({"entry": ""}, "entry"),
            ({"entry": "a.b", "run": "x"}, "entry and run"),
            ({"functionName": "other"}, "functionName"),
            ([], "object"),
            ({"timeout": "x"}, "timeout: expected a number or null, got a text"),
            ({"memory": 1}, "memory: expected a whole number >= "),
        ):
            status, answer = await patch(room, body)
            assert (status, answer["error"]["code"]) == (400, "bad_request"), body
            assert named in answer["error"]["message"], answer
        status, answer, _ = await room.ask("PATCH", "/functions/dice", data=b"{}")
        assert status == 400
        assert "application/json" in answer["error"]["message"]
        form = aiohttp.FormData({"env": "A=1"}, default_to_multipart=True)
        status, answer, _ = await room.ask("PATCH", "/functions/dice", data=form)
        assert (status, answer["error"]["hint"]) == (400, 'write {"NAME": "value"}')
        assert "env is no JSON object" in answer["error"]["message"]
        status, answer, _ = await room.ask("PATCH", "/functions/nope", {"timeout": 3})
        assert (status, answer["error"]["code"]) == (404, "unknown_function")
        assert (await room.ask("GET", "/functions/dice"))[1]["revision"] == 1


async def test_patches_at_once_all_count() -> None:
    async with open_room() as room:
        await room.register()
        bodies: list[Any] = [{"timeout": 7}, {"memory": 99}, {"cpu": 2}, {"retries": 5}]
        answers = await asyncio.gather(*(patch(room, body) for body in bodies))
        assert sorted(answer["revision"] for _, answer in answers) == [2, 3, 4, 5]
        _, last, _ = await room.ask("GET", "/functions/dice")
        for body in bodies:
            for name, value in body.items():
                assert last[name] == value


async def test_runtimes_are_shown_and_removed() -> None:
    async with open_room() as room:
        await room.register()
        status, runtime, _ = await room.ask("GET", "/runtimes/pythonruntime")
        assert (status, runtime["path"], runtime["revision"]) == (200, "/ws", 1)
        for path in ("/runtimes/nope", "/runtimes/a%20b"):
            status, answer, _ = await room.ask("GET", path)
            assert (status, answer["error"]["code"]) == (404, "unknown_runtime")
        assert (await room.ask("DELETE", "/runtimes/pythonruntime"))[0] == 409
        assert (await room.ask("DELETE", "/functions/dice"))[0] == 204
        assert (await room.ask("DELETE", "/runtimes/pythonruntime"))[0] == 204
        assert (await room.ask("DELETE", "/runtimes/pythonruntime"))[0] == 404
        for body in ({"image": "image", "path": "/x"},
                     {"image": "php", "name": "image", "path": "/x"}):  # fmt: skip
            status, answer, _ = await room.ask("POST", "/registerRuntime", body)
            assert (status, answer["error"]["code"]) == (400, "bad_request")
            assert "reserved" in answer["error"]["message"]


async def started(room: Room, worker: ScriptedWorker, revision: int) -> str:
    """Call a revision and return the key that the worker was told to run."""
    _, call = await room.invoke(revision=revision)
    worker.send(Sync(session=worker.session, epoch="", seq=0))
    start, _ = await worker.start()
    assert start.call == call["callNum"]
    assert call["revision"] == revision
    worker.send(Sync(session=worker.session, epoch="", seq=0, keys=(start.key,)))
    answer = await soon(lambda: pinned(worker, start.key), what="the revision")
    assert answer is not None
    worker.result(start.call, start.attempt, result=start.key.encode())
    _, done, _ = await room.ask("GET", f"/call/{start.call}?wait=10")
    assert (done["status"], done["result"]) == ("DONE", start.key)
    return start.key


def pinned(worker: ScriptedWorker, key: str) -> str | None:
    """Return the package of a revision that a worker asked for by key."""
    while (found := worker.take(Catalogue)) is not None:
        for item in found[0].pinned:
            if item.function is not None and f"@{item.function.revision}." in key:
                assert item.function.package is not None
                return item.function.package.sha256
    return None


async def test_older_revisions_are_shown_downloaded_and_run_whatever_happens() -> None:
    async with open_room() as room:
        await room.register()
        await room.register(timeout="7")
        worker = await room.worker()

        def grant() -> None:
            keys = tuple(Warm(f"default/dice@{n}.1", 1) for n in range(1, 5))
            worker.send_credit(4, keys)

        grant()
        assert await started(room, worker, 1) == "default/dice@1.1"
        grant()
        assert await started(room, worker, 2) == "default/dice@2.1"
        assert (await room.ask("DELETE", "/functions/dice"))[0] == 204
        assert (await room.invoke(revision=1))[0] == 404
        assert (await room.ask("GET", "/functions/dice/revisions"))[0] == 404
        form = aiohttp.FormData()
        form.add_field("module", io.BytesIO(package("new")), filename="new.tgz")
        status, answer, _ = await room.ask(
            "POST", "/registerFunction/pythonruntime/dice", data=form
        )
        assert (status, answer["revision"]) == (201, 3)
        for restart in (False, True):
            if restart:
                assert room.api is not None
                room.api.end(signal.SIGKILL)
                worker.close()
                await room.start_api()
                worker = await room.worker(node_id="id-node1", boot="boot2")
            grant()
            assert await started(room, worker, 1) == "default/dice@1.1"
            grant()
            assert await started(room, worker, 3) == "default/dice@3.1"
            _, revisions, _ = await room.ask("GET", "/functions/dice/revisions")
            assert [each["revision"] for each in revisions] == [1, 2, 3]
            assert [each["timeout"] for each in revisions] == [5.0, 7.0, 5.0]
            for number, content in ((1, package()), (3, package("new"))):
                path = f"/functions/dice/package?revision={number}"
                async with room.http.get(room.url + path) as response:
                    assert await response.read() == content
            _, one, _ = await room.ask("GET", "/functions/dice?revision=1")
            assert one == revisions[0]
            status, answer, _ = await room.ask("GET", "/functions/dice?revision=4")
            assert (status, answer["error"]["code"]) == (404, "unknown_function")
            assert "3" in answer["error"]["hint"]


async def test_deleting_a_function_lets_its_calls_run_or_ends_them() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        _, first = await room.invoke()
        start, _ = await worker.start()
        _, second = await room.invoke()
        status, queues, _ = await room.ask("GET", "/queues")
        assert status == 200
        assert queues == [{"functionName": "dice", "revision": 1, "queued": 1, "running": 1}]
        assert (await room.ask("DELETE", "/functions/dice"))[0] == 204
        assert (await room.invoke())[0] == 404
        _, answer, _ = await room.ask("GET", f"/call/{second['callNum']}")
        assert answer["status"] == "PENDING"
        await room.register()
        _, third = await room.invoke()
        status, answer, _ = await room.ask("DELETE", "/functions/dice?cancel=maybe")
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert (await room.ask("DELETE", "/functions/dice?cancel=true"))[0] == 204
        for num in (second["callNum"], third["callNum"]):
            _, answer, _ = await room.ask("GET", f"/call/{num}?wait=10")
            assert (answer["status"], answer["reason"]["code"]) == ("CANCELLED", "cancelled")
        cancel, _ = await worker.next(Cancel)
        assert cancel.call == start.call
        worker.result(start.call, start.attempt)
        _, answer, _ = await room.ask("GET", f"/call/{first['callNum']}?wait=10")
        assert answer["status"] == "DONE", "a result that was first wins"
        assert (await room.ask("GET", "/queues"))[1] == []


async def test_head_options_and_methods() -> None:
    async with open_room("--cors-origin", "https://good.example") as room:
        await room.register()
        for path in ("/functions/dice", "/runtimes", "/docs", "/functions/dice/package"):
            async with room.http.head(room.url + path) as response:
                assert response.status == 200, path
                assert await response.read() == b""
        async with room.http.options(room.url + "/functions/dice") as response:
            assert response.status == 204
            assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
        async with room.http.options(room.url + "/nowhere") as response:
            assert response.status == 404
        asked = {"Origin": "https://good.example", "Access-Control-Request-Method": "PATCH"}
        async with room.http.options(room.url + "/functions/dice", headers=asked) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://good.example"
            assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
            assert "Idempotency-Key" in response.headers["Access-Control-Allow-Headers"]
        for method, path, allow in (
            ("PUT", "/functions/dice", "DELETE,GET,HEAD,PATCH"),
            ("POST", "/runtimes", "GET,HEAD"),
            ("GET", "/invokeFunction", "POST"),
        ):
            status, answer, response = await room.ask(method, path)
            assert (status, answer["error"]["code"]) == (405, "method_not_allowed")
            assert response.headers["Allow"] == allow
            assert "PATCH /functions/{function}" in answer["error"]["hint"]


async def test_unknown_parameters_are_named_everywhere() -> None:
    async with open_room() as room:
        await room.register()
        for path in ("/runtimes", "/functions", "/functions/dice", "/workers", "/queues",
                     "/healthz", "/docs", "/openapi.json", "/calls", "/call/1",
                     "/functions/dice/revisions", "/functions/dice/package"):  # fmt: skip
            status, answer, _ = await room.ask("GET", f"{path}?colour=red")
            assert (status, answer["error"]["code"]) == (400, "bad_request"), path
            assert "'colour'" in answer["error"]["message"]
        for query in ("revision=1&revision=1", "revision=null", "revision=", "revision=0"):
            status, answer, _ = await room.ask("GET", f"/functions/dice?{query}")
            assert (status, answer["error"]["code"]) == (400, "bad_request"), query
            assert "revision" in answer["error"]["message"]
