"""Functions and calls as objects: values, futures, many at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import aclosing
from typing import Any

import pytest

from skep import AsyncClient, CallFailed, CallHandle, Client
from tests.conftest import eventually
from tests.skep.scripted import (
    Act,
    Asked,
    Hold,
    Say,
    Script,
    by_params,
    call,
    failed,
    number_of,
)

PENDING = call("PENDING")


def test_invoke_gives_the_value(client: Any, server: Script) -> None:
    server.says(
        call(result="[1,2]"),
        call(result="[1,2]", resultType="json"),
        call(result="AAE=", resultEncoding="base64"),
    )
    assert client.invoke("f", roll="4d6") == "[1,2]"
    assert client.invoke("f", 1, 2) == [1, 2]
    assert client.function("f")([7]) == b"\x00\x01"
    assert [asked.json["params"] for asked in server.asked] == [{"roll": "4d6"}, [1, 2], [7]]
    assert {asked.path for asked in server.asked} == {"/invokeFunction?wait=60.000"}


def test_params_may_be_called_as_the_client_calls_its_own(client: Any, server: Script) -> None:
    server.says(call(), call())
    named = {"function": 1, "self": 2, "params": 3, "wait": 4, "timeout": 5}
    client.invoke("f", **named)
    client.function("f").invoke(**named)
    assert [asked.json["params"] for asked in server.asked] == [named, named]


def test_a_call_that_lasts_is_waited_for_in_steps(client: Any, server: Script) -> None:
    server.acts += [Say(202, PENDING), Say(200, PENDING), Say(200, call(result="ok"))]
    assert client.invoke("f") == "ok"
    assert [asked.path for asked in server.asked[1:]] == ["/call/7?wait=60.000"] * 2


def test_options_are_said_as_http_spells_them(client: Any, server: Script) -> None:
    server.says(call())
    function = client.function(
        "f", timeout=9, max_wait=8, revision=2, idempotency_key="k", wait=5
    )
    function.invoke(1)
    asked = server.asked[0]
    assert asked.json == {
        "funcName": "f", "params": 1, "timeout": 9, "maxWait": 8, "revision": 2,
    }  # fmt: skip
    assert (asked.path, asked.key) == ("/invokeFunction?wait=5.000", "k")


def test_a_call_that_fails_raises(client: Any, server: Script) -> None:
    server.says(failed("ValueError: no"))
    with pytest.raises(CallFailed, match="ValueError: no") as caught:
        client.invoke("f")
    assert caught.value.record["callNum"] == 7


def test_a_handle_is_like_a_future(client: Any, server: Script) -> None:
    server.acts += [Say(202, PENDING), Say(200, PENDING), Say(200, call("RUNNING"))]
    handle = client.submit("f")
    assert (handle.number, handle.record) == (7, PENDING)
    assert not handle.done()
    assert repr(handle).endswith("CallHandle 7 of f, PENDING>")
    assert not handle.wait(0)
    assert handle.record["status"] == "RUNNING"
    server.says(call(result="ok"))
    assert handle.exception() is None
    # What has ended is not asked for again.
    assert handle.done()
    assert handle.result(0) == "ok"
    assert server.acts == []


def test_a_handle_of_a_failed_call(client: Any, server: Script) -> None:
    server.says(failed())
    handle = client.handle(7)
    assert isinstance(handle.exception(), CallFailed)
    server.says({"stdout": "out", "stderr": "err", "omitted": 0})
    assert handle.logs()["stderr"] == "err"


@pytest.mark.parametrize(
    ("answer", "cancelled"),
    [(call("CANCELLED"), True), (call("RUNNING"), True), (call("DONE"), False)],
)
def test_cancel_says_whether_it_came_in_time(
    client: Any, server: Script, answer: Any, cancelled: bool
) -> None:
    server.acts += [Say(202, PENDING), Say(202, answer)]
    handle = client.submit("f")
    assert handle.cancel() is cancelled
    assert (server.asked[1].method, server.asked[1].path) == ("DELETE", "/call/7")
    assert handle.record == answer


# --- what only one of the clients has ---------------------------------------------------


def waiting_server(server: Script, let_go: threading.Event) -> None:
    """Calls 1, 2, 3 … that end when the test lets go; call N's value is N."""
    numbers = itertools.count(1)

    def answer(asked: Asked) -> Act:
        if asked.method == "POST":
            return Say(202, call("PENDING", number=next(numbers)))
        number = number_of(asked.path)
        return Hold(let_go, Say(200, call(result=str(number), number=number)))

    server.handler = answer


def test_real_futures_for_the_standard_library(server: Script) -> None:
    let_go = threading.Event()
    waiting_server(server, let_go)
    with Client(server.url) as client:
        handles = [client.submit("f") for _ in range(20)]
        futures = {handle.future(): handle.number for handle in handles}
        assert not any(future.done() for future in futures)
        called: list[CallHandle] = []
        handles[0].add_done_callback(called.append)
        assert handles[0].future() in futures
        let_go.set()
        for future in as_completed(futures, timeout=20):
            assert future.result() == str(futures[future])
        eventually(lambda: called == [handles[0]])
        assert handles[0].record["status"] == "DONE"


def test_closing_ends_what_is_looked_after(server: Script) -> None:
    let_go = threading.Event()
    waiting_server(server, let_go)
    try:
        with Client(server.url) as client:
            future = client.submit("f").future()
            eventually(lambda: len(server.asked) == 2)
        assert future.cancelled()
    finally:
        let_go.set()


def test_a_closed_client_says_so(server: Script) -> None:
    server.handler = by_params(lambda params: params)
    client = Client(server.url)
    handle = client.submit("f", 1)
    assert handle.future().result() == 1
    client.close()
    client.close()
    for use in (lambda: client.invoke("f"), lambda: list(client.map("f", [1]))):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    assert handle.result() == 1


def test_threads_share_a_client(server: Script) -> None:
    server.handler = by_params(lambda params: params)
    with Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        values = pool.map(lambda number: client.invoke("f", number), range(200))
        assert list(values) == list(range(200))
        maps = pool.map(lambda n: list(client.map("f", range(n))), range(8))
        assert list(maps) == [list(range(n)) for n in range(8)]


async def test_await_gather_and_asynchronous_inputs(server: Script) -> None:
    server.handler = by_params(lambda params: params)

    async def inputs() -> AsyncIterator[int]:
        for number in itertools.count():
            await asyncio.sleep(0)
            yield number

    async with AsyncClient(server.url) as client:
        handles = await asyncio.gather(*(client.submit("f", n) for n in range(5)))
        assert [await handle for handle in handles] == list(range(5))
        assert await asyncio.gather(*(client.invoke("f", n) for n in "abc")) == list("abc")
        found = []
        async with aclosing(client.map("f", inputs(), concurrency=3)) as values:
            async for value in values:
                found.append(value)
                if value == 6:
                    break
        assert found == list(range(7))
    assert len(server.asked) <= 8 + 7 + 3


async def test_cancelling_who_awaits_leaves_the_call_alone(server: Script) -> None:
    let_go = threading.Event()
    waiting_server(server, let_go)
    try:
        async with AsyncClient(server.url) as client:
            handle = await client.submit("f")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.result(), 0.05)
            let_go.set()
            assert await handle == "1"
    finally:
        let_go.set()
    assert "DELETE" not in {asked.method for asked in server.asked}


def test_pages_follow_each_other(client: Any, server: Script) -> None:
    records = [call(number=number) for number in range(1, 6)]

    def page(asked: Asked) -> Act:
        after = int(asked.path.partition("after=")[2].partition("&")[0] or 0)
        limit = int(asked.path.partition("limit=")[2].partition("&")[0])
        found = [one for one in records if one["callNum"] > after][: min(2, limit)]
        last = found[-1]["callNum"]
        link = f'</calls?order=asc&limit={limit}&after={last}&status=DONE>; rel="next"'
        body = {f"c{one['callNum']}": one for one in found}
        return Say(200, body, {"Link": link} if last < 5 else {})

    server.handler = page
    assert list(client.iter_calls(status="DONE", function=None)) == records
    assert all("status=DONE" in asked.path for asked in server.asked)
    assert len(server.asked) == 3
    assert list(client.iter_calls(limit=3)) == records[:3]
    assert len(server.asked) == 5
    assert client.calls(limit=1) == records[:1]
    assert json.dumps(server.asked[-1].path).count("after") == 0
