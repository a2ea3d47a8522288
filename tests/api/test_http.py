"""The HTTP side: shapes of errors, who may ask, uploads, pages, and garbage on the sockets."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import zmq
from yarl import URL

from api.drain import AGAIN_S
from api.settings import Limits
from tests.api.room import ROOT, ScriptedWorker, open_room, package
from tests.conftest import soon
from wire import codec
from wire.messages import (
    CHUNK_BYTES,
    INLINE_BYTES,
    Catalogue,
    Chunk,
    Fetch,
    Prepare,
    Refuse,
    Sync,
    Who,
    WorkerHeartbeat,
)
from wire.sockets import open_socket


async def test_errors_have_one_shape() -> None:
    async with open_room("--max-params", "1000", "--max-package", "2000") as room:
        await room.register()
        await room.worker()
        cases: list[tuple[str, str, Any, dict[str, str], int, str]] = [
            ("POST", "/invokeFunction", {"funcName": "nope"}, {}, 404, "unknown_function"),
            ("POST", "/invokeFunction", {"funcName": "dice", "x": 1}, {}, 400, "bad_request"),
            ("POST", "/invokeFunction", {"funcName": "dice", "params": "x" * 1000}, {}, 413,
             "too_large"),
            ("POST", "/invokeFunction", {"funcName": "dice", "revision": 9}, {}, 404,
             "unknown_function"),
            ("POST", "/invokeFunction?wait=x", {"funcName": "dice"}, {}, 400, "bad_request"),
            ("POST", "/registerRuntime", {"image": "x"}, {}, 400, "bad_request"),
            ("GET", "/call/99", None, {}, 404, "unknown_call"),
            ("GET", "/call/x", None, {}, 404, "unknown_call"),
            ("DELETE", "/call/99", None, {}, 404, "unknown_call"),
            ("GET", "/call/99/logs", None, {}, 404, "unknown_call"),
            ("GET", "/calls?limit=0", None, {}, 400, "bad_request"),
            ("GET", "/functions/no/package", None, {}, 404, "unknown_function"),
            ("DELETE", "/runtimes/pythonruntime", None, {}, 409, "conflict"),
            ("GET", "/nowhere", None, {}, 404, "not_found"),
            ("DELETE", "/calls", None, {}, 405, "method_not_allowed"),
            ("POST", "/registerFunction/no/dice", None, {}, 404, "unknown_runtime"),
            ("GET", "/runtimes", None, {"Host": "evil.example"}, 403, "forbidden"),
            ("POST", "/invokeFunction", {"funcName": "dice"},
             {"Origin": "http://evil.example"}, 403, "forbidden"),
            ("DELETE", "/call/1", None, {"Sec-Fetch-Site": "cross-site"}, 403, "forbidden"),
        ]  # fmt: skip
        for method, path, body, headers, status, code in cases:
            got, answer, _ = await room.ask(method, path, body, headers=headers)
            assert (got, answer["error"]["code"]) == (status, code), (path, answer)
            assert set(answer["error"]) == {"code", "message", "hint"}
        assert "/nowhere" in (await room.ask("GET", "/nowhere"))[1]["error"]["message"]
        got, answer, _ = await room.ask("POST", "/invokeFunction", data=b'{"funcName":"dice"}')
        assert (got, answer["error"]["code"]) == (400, "bad_request")
        assert "application/json" in answer["error"]["message"]
        _, answer, _ = await room.ask("POST", "/invokeFunction", {"funcName": "dice", "x": 1})
        assert "`x`" in answer["error"]["message"]


async def test_uploads_are_whole_or_not_at_all() -> None:
    async with open_room("--max-package", "5000") as room:
        await room.register()
        packages = room.folder / "api" / "packages"
        url = "/registerFunction/pythonruntime/dice"

        async def upload(*parts: tuple[str, bytes, str | None]) -> tuple[int, Any]:
            form = aiohttp.FormData()
            for name, value, filename in parts:
                if filename is None:
                    form.add_field(name, value.decode(), content_type="text/plain")
                else:
                    form.add_field(name, io.BytesIO(value), filename=filename)
            status, answer, _ = await room.ask("POST", url, data=form)
            return status, answer

        kept = sorted(packages.iterdir())
        assert len(kept) == 1
        for parts, expected, code in (
            ([("module", b"no archive", "x.zip")], 415, "unsupported_archive"),
            ([("module", os.urandom(6000), "x.zip")], 413, "too_large"),
            ([("module", package()[:60], "x.tgz")], 415, "unsupported_archive"),
            ([("timeout", b"3", None)], 400, "bad_request"),
            ([("module", package("2"), "x.tgz"), ("colour", b"red", None)], 400, "bad_request"),
        ):
            status, answer = await upload(*parts)
            assert (status, answer["error"]["code"]) == (expected, code), answer
        status, answer = await upload(
            ("module", package("3"), "x.tgz"), ("timeout", b"9", None)
        )
        assert (status, answer["revision"], answer["timeout"]) == (200, 2, 9.0)
        assert answer["package"]["originalname"] == "x.tgz"
        assert answer["callCount"] == 0
        async with room.http.get(f"{room.url}/functions/dice/package") as response:
            assert await response.read() == package("3")
        host = urlsplit(room.url)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(
            f"POST {url} HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: 4000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="module"; filename="x"\r\n\r\n'
            "half".encode()
        )
        await writer.drain()
        await soon(lambda: any(p.name.startswith(".") for p in packages.iterdir()))
        writer.close()
        del reader
        await soon(lambda: not any(p.name.startswith(".") for p in packages.iterdir()))


async def test_tokens_and_origins() -> None:
    async with open_room("--token", "geheim", "--cors-origin", "http://page.example") as room:
        status, answer, _ = await room.ask("GET", "/runtimes")
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
        assert (await room.ask("GET", "/healthz"))[0] == 200
        good = {"Authorization": "Bearer geheim", "Origin": "http://page.example"}
        status, _, response = await room.ask("GET", "/runtimes", headers=good)
        assert status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "http://page.example"
        _, _, response = await room.ask("OPTIONS", "/runtimes", headers=good)
        assert response.status == 204
        await room.worker(token="geheim")
        stranger = ScriptedWorker(room.context, f"ipc://{room.folder}/workers", "x")
        room.workers.append(stranger)
        stranger.send(stranger.hello)
        refused, _ = await stranger.next(Refuse)
        assert refused.code == "unauthorized"


def test_the_network_is_not_let_in_by_accident(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "api", "--host", "0.0.0.0", "--data", str(tmp_path)]
    ran = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "--insecure" in ran.stderr


def test_a_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        async def scene() -> int | None:
            async with open_room() as room:
                first = room.api
                room.options = ("--port", str(taken.getsockname()[1]))
                (room.folder / "workers").unlink()
                with pytest.raises(AssertionError):
                    await room.start_api()
                second = room.api
                assert second is not None
                await soon(lambda: second.status is not None)
                status = second.status
                room.api = first
                return status

        assert asyncio.run(scene()) == 1


async def test_pages_of_calls() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        for _ in range(5):
            await room.invoke()
        _, calls, response = await room.ask("GET", "/calls?limit=2")
        assert list(calls) == ["c1", "c2"]
        seen = list(calls)
        while "next" in response.links:
            url = URL(response.links["next"]["url"])
            _, calls, response = await room.ask("GET", url.path_qs)
            seen += list(calls)
        assert seen == ["c1", "c2", "c3", "c4", "c5"]
        _, calls, _ = await room.ask("GET", "/calls?order=desc&limit=2&function=dice")
        assert list(calls) == ["c5", "c4"]
        _, calls, _ = await room.ask("GET", "/calls?status=DONE")
        assert calls == {}
        assert worker.session


async def test_a_page_is_empty_only_where_no_call_behind_it_matches() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        for _ in range(8):
            assert (await room.invoke())[0] == 202
        # Those that have begun since are still stored as what they were.
        worker.credit(5, dice=5)
        begun = {(await worker.start())[0].call for _ in range(5)}
        left = [f"c{num}" for num in range(1, 9) if num not in begun]
        seen: list[str] = []
        path = "/calls?status=PENDING&limit=2"
        while path:
            _, calls, response = await room.ask("GET", path)
            assert calls, (path, seen, left)
            seen += calls
            path = URL(response.links["next"]["url"]).path_qs if response.links else ""
        assert seen == left
        _, calls, _ = await room.ask("GET", "/calls?status=RUNNING&limit=9")
        assert list(calls) == [f"c{num}" for num in sorted(begun)]


async def test_too_much_that_is_not_stored_refuses_new_calls_until_it_is() -> None:
    result = json.dumps("x" * (INLINE_BYTES - 100)).encode()
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        assert room.db is not None
        os.kill(room.db.pid, signal.SIGSTOP)
        try:
            # Those that are answered at once are stored later: here, not at all.
            for _ in range(2 * Limits().outbox_bytes // INLINE_BYTES):
                asking = asyncio.ensure_future(
                    room.ask("POST", "/invokeFunction?wait=20", {"funcName": "dice"})
                )
                worker.credit(1, dice=1)
                await soon(lambda: asking.done() or worker.inbox)  # noqa: B023
                if not asking.done():
                    start, _ = await worker.start()
                    worker.result(start.call, start.attempt, result)
                status, answer, response = await asking
                if status != 200:
                    break
            assert (status, answer["error"]["code"]) == (503, "store_unavailable")
            assert int(response.headers["Retry-After"]) >= 1
        finally:
            os.kill(room.db.pid, signal.SIGCONT)

        async def takes() -> bool:
            return (await room.invoke())[0] == 202

        await soon(takes)


async def test_max_wait_and_a_full_queue() -> None:
    async with open_room("--queue", "1") as room:
        await room.register()
        await room.worker()
        asking = asyncio.ensure_future(room.invoke("?wait=20", maxWait=1))

        async def queues() -> Any:
            return (await room.ask("GET", "/queues"))[1]

        await soon(queues)
        statuses = set()
        for _ in range(50):
            status, answer, response = await room.ask(
                "POST", "/invokeFunction", {"funcName": "dice"}
            )
            statuses.add(status)
            if status == 429:
                assert answer["error"]["code"] == "queue_full"
                assert response.headers["Retry-After"] == str(AGAIN_S)
                break
        assert 429 in statuses
        status, answer = await asking
        assert (status, answer["status"]) == (200, "TIMEOUT")
        assert answer["reason"]["code"] == "never_started"
        assert answer["startedAt"] is None


async def test_garbage_on_the_socket_hurts_nobody() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        dealer = open_socket(room.context, zmq.DEALER)
        try:
            dealer.connect(f"ipc://{room.folder}/workers")
            noise = random.Random(7)
            for _ in range(300):
                count = noise.randint(1, 6)
                frames = [noise.randbytes(noise.randint(0, 40)) for _ in range(count)]
                if noise.random() < 0.5:
                    frames[0] = bytes((codec.MAGIC, codec.VERSION, noise.randint(0, 50)))
                dealer.send_multipart(frames)
            worker.credit(1)
            await room.invoke()
            await worker.next(Prepare)
            assert (await room.ask("GET", "/healthz"))[0] == 200
        finally:
            dealer.close(linger=0)


async def test_strangers_and_namesakes_and_other_versions() -> None:
    async with open_room() as room:
        worker = await room.worker()
        other = ScriptedWorker(room.context, f"ipc://{room.folder}/workers", "node1",
                               node_id="another")  # fmt: skip
        room.workers.append(other)
        other.send(other.hello)
        refused, _ = await other.next(Refuse)
        assert refused.code == "conflict"
        heartbeat = WorkerHeartbeat(
            session=worker.session, seen=0, received=0, running=0, sandboxes=0
        )
        other.send(heartbeat)
        await other.next(Who)
        head, header, payload = codec.encode(heartbeat)
        other.send_raw(bytes((codec.MAGIC, 99, head[2])), header, payload)
        refused, _ = await other.next(Refuse)
        assert "version 99" in refused.message


async def test_an_older_hello_that_is_read_late_takes_no_call_away() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker(number=2)
        worker.credit(1, dice=1)
        _, call = await room.invoke()
        start, _ = await worker.start()
        late = ScriptedWorker(room.context, f"ipc://{room.folder}/workers", "node1", number=1)
        room.workers.append(late)
        late.send(late.hello)
        late.session = worker.session
        late.heartbeat()
        await late.next(Who)
        worker.result(start.call, start.attempt)
        _, call, _ = await room.ask("GET", f"/call/{call['callNum']}?wait=30")
        assert (call["status"], len(call["attempts"])) == ("DONE", 1)
        for later in ({"number": 3}, {"number": 1, "boot": "boot2"}):
            await room.worker(**later)


async def test_a_node_shows_what_waits_there_and_of_what_use_it_was() -> None:
    async with open_room() as room:
        worker = await room.worker()
        _, (shown,), _ = await room.ask("GET", "/workers")
        assert (shown["generic"], shown["hitRatio"], shown["genericHitRatio"]) == (
            {},
            None,
            None,
        )
        beat = {"warm": (("default/dice@1.1", 2),), "generic": (("python", 1),)}
        # Its own next heartbeat says nothing of it again.
        while not shown["generic"]:
            worker.heartbeat(**beat, starts=(6, 1, 3), preload="runtime")
            _, (shown,), _ = await room.ask("GET", "/workers")
        assert shown["preload"] == "runtime"
        assert shown["warm"] == {"default/dice@1.1": 2}
        assert shown["generic"] == {"python": 1}
        assert shown["starts"] == {"warm": 6, "generic": 1, "cold": 3}
        assert (shown["hitRatio"], shown["genericHitRatio"]) == (0.6, 0.25)


async def test_packages_and_large_params_are_fetched() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        _, function, _ = await room.ask("GET", "/functions")
        worker.send(Sync(session=worker.session, epoch="", seq=0, keys=("default/dice@1.1",)))
        catalogue, _ = await worker.next(Catalogue)
        assert len(catalogue.pinned) == 2
        functions = [item.function for item in catalogue.items if item.function]
        assert functions[0].package is not None
        sha256 = functions[0].package.sha256

        async def fetch(what: str, key: str, credit: int) -> tuple[bytes, Chunk]:
            data, chunk = b"", None
            while chunk is None or (len(data) < chunk.total and not chunk.error):
                worker.send(Fetch(session=worker.session, what=what,  # type: ignore[arg-type]
                                  key=key, offset=len(data), credit=credit))  # fmt: skip
                for _ in range(max(1, credit // CHUNK_BYTES)):
                    chunk, piece = await worker.next(Chunk)
                    assert chunk.offset == len(data)
                    data += piece
                    if len(data) >= chunk.total:
                        break
            assert chunk is not None
            return data, chunk

        data, _ = await fetch("package", sha256, 100)
        assert data == package()
        for bad in ("../../etc/passwd", "0" * 64, ""):
            _, chunk = await fetch("package", bad, 100)
            assert chunk.error is not None
        worker.credit(1, dice=1)
        large = "x" * (2 * INLINE_BYTES)
        body = io.BytesIO(b'{"funcName":"dice","params":"' + large.encode() + b'"}')
        headers = {"Content-Type": "application/json"}
        status, _, _ = await room.ask("POST", "/invokeFunction", data=body, headers=headers)
        assert status == 202
        start, inline = await worker.start()
        assert (start.size, inline) == (len(large) + 2, b"")
        data, _ = await fetch("params", f"{start.call}.1", 2 * CHUNK_BYTES)
        assert data == f'"{large}"'.encode()
        assert function == ["dice"]
