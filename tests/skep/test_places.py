"""Where a client speaks to, with what token; its processes, threads and signals."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from skep import (
    AsyncCallHandle,
    AsyncClient,
    AsyncFunctionHandle,
    CallHandle,
    Client,
    FunctionHandle,
    NotReachable,
    SkepError,
)
from tests.conftest import eventually
from tests.skep.both import Clock, made
from tests.skep.scripted import Hold, Say, Script, by_params, call

ROOT = Path(__file__).resolve().parents[2]


def test_the_token_travels_and_is_never_shown(
    kind: str, server: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEP_TOKEN", "from-environment")
    server.says({}, {}, {})
    for token in (None, "explicit", ""):
        with made(kind, server.url, token=token) as client:
            client.health()
            shown = repr(client) + repr(client.function("f")) + str(vars(client))
            assert "from-environment" not in shown
            assert "explicit" not in shown
    sent = [asked.headers.get("authorization") for asked in server.asked]
    assert sent == ["Bearer from-environment", "Bearer explicit", None]


@pytest.mark.parametrize("token", ["line\n", "ü", "a b"])
def test_a_token_that_no_header_carries_is_refused_unseen(kind: str, token: str) -> None:
    with pytest.raises(SkepError, match="token") as caught:
        made(kind, "http://127.0.0.1:1", token=f"secret{token}")
    assert "secret" not in str(caught.value) + caught.value.hint


def test_the_address_is_that_of_the_environment_or_the_usual_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKEP_URL", raising=False)
    with made(kind, "") as client:
        assert client.url == "http://127.0.0.1:3000"
    monkeypatch.setenv("SKEP_URL", "http://127.0.0.1:9/")
    with made(kind, "", retries=0) as client, pytest.raises(NotReachable):
        assert client.url == "http://127.0.0.1:9"
        client.workers()


@pytest.mark.parametrize(
    "url",
    ["localhost:3000", "127.0.0.1:3000", "ftp://x", "http://", "http://x:y", "http://[", " "],
)
def test_an_address_that_is_none_is_refused_with_a_hint(kind: str, url: str) -> None:
    with pytest.raises(SkepError, match="no address") as caught:
        made(kind, url)
    assert caught.value.code == "bad_request"
    assert "http://127.0.0.1:3000" in caught.value.hint


def test_a_path_before_the_routes_is_kept(kind: str, server: Script) -> None:
    server.says([])
    with made(kind, f"{server.url}/behind/a/proxy/") as client:
        client.functions()
    assert server.asked[0].path == "/behind/a/proxy/functions"


def test_connections_are_kept(client: Any, server: Script) -> None:
    server.handler = by_params(lambda params: params)
    assert [client.invoke("f", n) for n in range(20)] == list(range(20))
    assert server.connections == 1


def parameters(verb: Any) -> list[tuple[Any, ...]]:
    found = inspect.signature(verb).parameters.values()
    # Inputs of a map may be asynchronous, too.
    types = {"inputs": "Iterable", "sleep": ""}
    return [(p.name, p.kind, p.default, types.get(p.name, p.annotation)) for p in found]


def test_both_clients_say_the_same() -> None:
    pairs = [
        (Client, AsyncClient, {"__enter__": "__aenter__", "__exit__": "__aexit__"}),
        (CallHandle, AsyncCallHandle, {}),
        (FunctionHandle, AsyncFunctionHandle, {}),
    ]
    for one, other, names in pairs:
        for name, verb in inspect.getmembers(one, inspect.isfunction):
            if name.startswith("_") and name not in names:
                continue
            if name in ("future", "add_done_callback"):
                continue
            same = getattr(other, names.get(name, name))
            assert parameters(verb) == parameters(same), name
            assert verb.__doc__ or name in names
            assert same.__doc__ or name in names


def test_a_fork_speaks_on_connections_of_its_own(server: Script) -> None:
    server.handler = by_params(lambda params: params)
    with Client(server.url) as client:
        assert client.invoke("f", "parent") == "parent"
        assert list(client.map("f", [1], concurrency=1)) == [1]
        before = server.connections
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                values = [client.invoke("f", "child"), *client.map("f", [3])]
                client.close()
                status = 0 if values == ["child", 3] else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        # One for what the child waited for, one for its map.
        assert server.connections == before + 2
        assert client.invoke("f", "parent again") == "parent again"
        assert server.connections == before + 2


INTERRUPTED = """
import sys
from skep import Client
client = Client(sys.argv[1])
try:
    if sys.argv[2] == "map":
        list(client.map("f", range(100)))
    else:
        client.submit("f").result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SKEP_")}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("what", ["map", "result"])
def test_ctrl_c_ends_a_wait_at_once(server: Script, what: str) -> None:
    let_go = threading.Event()

    def answer(asked: Any) -> Any:
        if what == "result" and asked.method == "POST":
            return Say(202, call("PENDING"))
        return Hold(let_go, Say(200, call()))

    server.handler = answer
    process = python(INTERRUPTED, server.url, what)
    try:
        eventually(lambda: len(server.lines) == (16 if what == "map" else 2))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (out, err, process.returncode) == ("interrupted\n", "", 0)
    finally:
        let_go.set()
        process.kill()
        process.communicate()


def test_a_client_that_nobody_closed_keeps_no_program_alive(server: Script) -> None:
    server.handler = by_params(lambda params: params)
    code = "import sys; from skep import Client; print(next(Client(sys.argv[1]).map('f', [5])))"
    process = python(code, server.url)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("5\n", "", 0)


def test_the_package_brings_in_no_room() -> None:
    code = "import skep, sys; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    out, _ = python(code).communicate(timeout=20)
    loaded = set(out.split())
    rooms = {"api", "cli", "dbnode", "miniworker", "wire", "worker"}
    assert {"skep", "httpx"} <= loaded
    assert not loaded & (rooms | {"zmq", "msgpack", "msgspec", "aiohttp"})


def test_pauses_are_real_when_nobody_injects_them(kind: str, server: Script) -> None:
    busy = Say(503, {"error": {"code": "no_worker", "message": "m", "hint": "h"}},
               {"Retry-After": "1"})  # fmt: skip
    server.acts += [busy, Say(200, [])]
    began = time.monotonic()
    with made(kind, server.url) as client:
        assert client.functions() == []
    assert time.monotonic() - began >= 1


def test_a_clock_that_stands_still_ends_retries_all_the_same(server: Script) -> None:
    class Stopped(Clock):
        def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    clock = Stopped()
    busy = Say(503, {"error": {"code": "no_worker", "message": "m", "hint": "h"}})
    server.acts += [busy] * 99
    made_client = made("sync", server.url, clock=clock, retries=50)
    with made_client as client, pytest.raises(SkepError):
        client.functions()
    assert len(server.asked) <= 51
