"""Both clients and a real ``skep up``: what they say is what it understands."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from skep import (
    AsyncClient,
    BadRequest,
    CallFailed,
    Client,
    Conflict,
    StillRunning,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
)
from tests.conftest import children, eventually
from tests.e2e.harness import Up, assert_gone, up
from tests.packing import tar_gz
from tests.skep.both import made

RUNTIME = {"image": "pythonruntime", "path": "/ws", "run": "python3 test.py", "name": "bare"}
ECHO = "import sys; print(sys.stdin.read())"
SLEEP = "import json, sys, time; time.sleep(json.load(sys.stdin)); print('slept')"
RAISE = "import sys; print('so it is', file=sys.stderr); raise KeyError('dice')"
BYTES = "import sys; sys.stdout.buffer.write(bytes([0, 255]))"


def pack(script: str) -> bytes:
    return tar_gz({"test.py": script})


@pytest.fixture(autouse=True)
def nothing_outlives(hive: Up) -> None:
    """Sandboxes of the installation come and go during a test; its end proves that all went."""


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running skep with four functions; all of it is gone at the end."""
    before = children()
    data = tmp_path_factory.mktemp("real") / "data"
    with up(data, "--slots", "6") as running:
        with Client(running.url) as client:
            client.register_runtime(RUNTIME)
            scripts = {"echo": ECHO, "sleep": SLEEP, "raise": RAISE, "bytes": BYTES}
            for name, script in scripts.items():
                client.register_function("bare", name, pack(script), timeout=60)
        yield running
    assert_gone(data, before)


@pytest.fixture
def client(kind: str, hive: Up) -> Iterator[Any]:
    """A client of it."""
    with made(kind, hive.url) as made_client:
        yield made_client


def test_calls(client: Any, kind: str) -> None:
    values_failures_and_logs(client)
    map_of_many(client)
    a_call_is_waited_for_cancelled_and_found_again(client)
    the_same_key_answers_the_first_call_again(client, kind)


def test_the_catalogue_and_the_platform(client: Any, kind: str, tmp_path: Path) -> None:
    functions_and_runtimes_through_their_lives(client, kind, tmp_path)
    what_is_refused(client)
    the_platform_shows_itself(client)


def values_failures_and_logs(client: Any) -> None:
    assert client.invoke("echo", roll="4d6") == '{"roll":"4d6"}'
    assert client.invoke("echo", "düse\u2028", None) == '["düse\u2028",null]'
    assert client.invoke("bytes") == b"\x00\xff"
    handle = client.submit("raise")
    with pytest.raises(CallFailed, match="dice") as caught:
        handle.result(30)
    assert caught.value.record["status"] == "FAILED"
    assert "so it is" in handle.logs()["stderr"]


def map_of_many(client: Any) -> None:
    assert list(client.map("echo", range(60), concurrency=8)) == [str(n) for n in range(60)]


def a_call_is_waited_for_cancelled_and_found_again(client: Any) -> None:
    handle = client.submit("sleep", 50)
    with pytest.raises(StillRunning):
        handle.result(0.2)
    again = client.handle(handle.number)
    assert again.cancel()
    with pytest.raises(CallFailed) as caught:
        handle.result(30)
    assert caught.value.code == "cancelled"
    assert not handle.cancel() or handle.record["status"] == "CANCELLED"


def the_same_key_answers_the_first_call_again(client: Any, kind: str) -> None:
    echo = client.function("echo", idempotency_key=f"key-{kind}")
    first, second = echo.submit(1), echo.submit(1)
    assert first.number == second.number
    assert echo.invoke(1) == "1"
    with pytest.raises(Conflict):
        echo.submit(2)
    many = client.function("echo", idempotency_key=f"many-{kind}")
    assert list(many.map("ab")) == list(many.map("ab")) == ['"a"', '"b"']
    newest = next(iter(client.iter_calls(order="desc", limit=1)))["callNum"]
    assert list(many.map("ab")) == ['"a"', '"b"']
    assert next(iter(client.iter_calls(order="desc", limit=1)))["callNum"] == newest


def functions_and_runtimes_through_their_lives(client: Any, kind: str, tmp_path: Path) -> None:
    name, runtime = f"life-{kind}", f"rt-{kind}"
    assert client.register_runtime({**RUNTIME, "name": runtime})["name"] == runtime
    assert client.runtime(runtime)["path"] == "/ws"
    package = tmp_path / "one.tar.gz"
    package.write_bytes(pack(ECHO))
    made_one = client.register_function(runtime, name, package, memory=64, env={"A": "b"})
    assert (made_one["revision"], made_one["memory"], made_one["env"]) == (1, 64, {"A": "b"})
    assert (
        client.register_function(runtime, name, package, memory=64, env={"A": "b"}) == made_one
    )
    assert client.update_function(name, memory=None, idempotent=True)["memory"] == 256
    changed = client.update_function(name, pack(BYTES), idempotent=None, timeout=7)
    assert (changed["revision"], changed["idempotent"], changed["timeout"]) == (3, False, 7)
    assert changed["env"] == {"A": "b"}
    assert [one["revision"] for one in client.revisions(name)] == [1, 2, 3]
    assert client.get_function(name, 1)["memory"] == 64
    assert client.function(name, revision=1).invoke(5) == "5"
    assert client.invoke(name, 5) == b"\x00\xff"
    copy = client.download_function(name, tmp_path / "copy", revision=1)
    assert copy.read_bytes() == package.read_bytes()
    assert client.download_function(name, tmp_path).name == "package"
    with pytest.raises(Conflict):
        client.delete_runtime(runtime)
    client.delete_function(name)
    client.delete_runtime(runtime)
    with pytest.raises(UnknownFunction):
        client.get_function(name)
    with pytest.raises(UnknownRuntime):
        client.runtime(runtime)


def what_is_refused(client: Any) -> None:
    with pytest.raises(UnknownFunction):
        client.invoke("nobody")
    with pytest.raises(UnknownCall):
        client.call(10**9)
    with pytest.raises(BadRequest, match="memory"):
        client.update_function("echo", memory=1)
    with pytest.raises(BadRequest) as caught:
        client.register_function("bare", "odd", b"no archive at all")
    assert caught.value.status == 415
    assert "odd" not in client.functions()


def the_platform_shows_itself(client: Any) -> None:
    handle = client.submit("sleep", 30)
    eventually(lambda: client.call(handle.number)["status"] == "RUNNING")
    (node,) = client.workers()
    assert client.drain_worker(node["name"], 0.1)["drained"] is False
    assert client.resume_worker(node["name"])["attempts"] == 1
    eventually(lambda: client.workers()[0]["state"] == "up")
    with pytest.raises(Conflict):
        client.delete_worker(node["name"])
    assert client.queues() == [
        {"functionName": "sleep", "revision": 1, "queued": 0, "running": 1}
    ]
    eventually(lambda: client.workers()[0]["running"] == 1)
    assert client.health()["status"] == "ok"
    handle.cancel()
    handle.wait(30)
    numbers = [call["callNum"] for call in client.iter_calls(function="sleep")]
    assert handle.number in numbers
    assert numbers == sorted(numbers)


@pytest.mark.timeout(150)
def test_waits_and_maps_outlast_the_death_of_the_api(client: Any, hive: Up) -> None:
    handle = client.submit("sleep", 3)
    with ThreadPoolExecutor(1) as pool, Client(hive.url, retries=20) as other:
        values = pool.submit(lambda: list(other.map("echo", range(400), concurrency=4)))
        eventually(lambda: any(queue["running"] for queue in other.queues()))
        before = hive.child("api")
        os.kill(before, signal.SIGKILL)
        assert handle.result(60) == "slept"
        outcome = values.result(60)
    assert hive.child("api") not in (0, before)
    assert outcome == [str(number) for number in range(400)]


def test_a_map_over_a_line_that_breaks_makes_each_call_once(
    client: Any, kind: str, hive: Up
) -> None:
    before = client.submit("echo").number
    with (
        cutting(int(hive.url.rpartition(":")[2]), after=9000) as (url, cuts),
        made(kind, url) as other,
    ):
        values = list(other.map("echo", range(200), concurrency=32))
    assert values == [str(number) for number in range(200)]
    assert cuts
    calls = client.iter_calls(function="echo", after=before)
    assert sorted(int(call["result"]) for call in calls) == list(range(200))


@contextmanager
def cutting(port: int, after: int) -> Iterator[tuple[str, list[int]]]:
    """A line to a port that breaks each connection after so many bytes of answers."""
    cuts: list[int] = []

    def forward(source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while piece := source.recv(4096):
                if left is not None and (left := left - len(piece)) <= 0:
                    cuts.append(1)
                    break
                sink.sendall(piece)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=forward, args=(there, self.request, after))
                back.start()
                forward(self.request, there, None)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", cuts
        finally:
            server.shutdown()
            thread.join()


async def test_many_handles_are_awaited_at_once(hive: Up) -> None:
    async with AsyncClient(hive.url) as client:
        handles = [await client.submit("echo", number) for number in range(10)]
        assert await asyncio.gather(*handles) == [str(number) for number in range(10)]
