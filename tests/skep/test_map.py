"""Many calls of one function: in order, bounded, lazily, and stopped cleanly."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from skep import CallFailed, SkepError, StillRunning, Unavailable
from tests.conftest import eventually
from tests.skep.scripted import (
    Asked,
    Hold,
    Pieces,
    Reset,
    Say,
    Script,
    by_params,
    call,
    error,
    failed,
    number_of,
)


def test_map_keeps_the_order_and_the_bound(client: Any, server: Script) -> None:
    together, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(4)

    def value(params: Any) -> Any:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        if params < 8:
            # Only if four are under way at once does any of them go on.
            barrier.wait(20)
        with lock:
            together -= 1
        return params * 10

    server.handler = by_params(value)
    assert list(client.map("f", range(30), concurrency=4)) == [n * 10 for n in range(30)]
    assert most == 4


def test_map_takes_inputs_only_when_there_is_room(client: Any, server: Script) -> None:
    server.handler = by_params(lambda params: params)
    taken = []

    def inputs() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    values = client.map("f", inputs(), concurrency=5)
    assert taken == []
    assert list(itertools.islice(values, 20)) == list(range(20))
    values.close()
    assert len(taken) <= 20 + 5
    asked = len(server.lines)
    assert asked <= 20 + 5


def test_map_raises_a_failure_at_its_place(client: Any, server: Script) -> None:
    server.handler = by_params(
        lambda params: Say(200, failed(f"not {params}")) if params == 3 else params
    )
    values = client.map("f", itertools.count(), concurrency=3)
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(CallFailed, match="not 3"):
        next(values)
    assert next(values, "over") == "over"


def test_map_gives_failures_as_values(client: Any, server: Script) -> None:
    answers = {1: Say(200, failed()), 2: Say(404, error("unknown_function"))}
    server.handler = by_params(lambda params: answers.get(params, params))
    values = list(client.map("f", range(4), return_exceptions=True))
    assert [values[0], values[3]] == [0, 3]
    assert isinstance(values[1], CallFailed)
    assert isinstance(values[2], SkepError)


def test_an_input_that_raises_ends_the_map(client: Any, server: Script) -> None:
    server.handler = by_params(lambda params: params)

    def inputs() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(client.map("f", inputs(), concurrency=1))


@pytest.mark.parametrize("inputs", [[{1, 2}], [float("nan")]])
def test_an_input_that_is_no_json_raises_at_its_place(
    client: Any, server: Script, inputs: list[Any]
) -> None:
    server.handler = by_params(lambda params: params)
    values = client.map("f", [0, *inputs], concurrency=2)
    assert next(values) == 0
    with pytest.raises((TypeError, ValueError), match="JSON"):
        next(values)


def test_map_with_a_key_gives_each_call_its_own(client: Any, server: Script) -> None:
    server.handler = by_params(lambda params: params)
    list(client.function("f", idempotency_key="job").map("abc", concurrency=1))
    assert [asked.key for asked in server.lines] == ["job:0", "job:1", "job:2"]


def test_concurrency_is_at_least_one(client: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        client.map("f", [], concurrency=0)
    assert list(client.map("f", [])) == []


def test_a_map_that_is_dropped_stops_at_once(client: Any, server: Script) -> None:
    let_go = threading.Event()
    server.handler = lambda asked: (
        Say(200, call(result="first"))
        if asked.json["params"] == 0
        else Hold(let_go, Say(200, call()))
    )
    values = client.map("f", itertools.count(), concurrency=4)
    assert next(values) == "first"
    eventually(lambda: len(server.lines) >= 4)
    # Three calls are still waited for; nobody waits for them to close it.
    values.close()
    let_go.set()
    assert len(server.lines) <= 5


def test_many_calls_share_few_requests(client: Any, server: Script) -> None:
    server.handler = by_params(lambda params: params)
    values = list(client.map("f", range(500), concurrency=64))
    assert values == list(range(500))
    assert len(server.lines) == 500
    assert {asked.path for asked in server.asked} == {"/invokeFunctions?wait=60.000"}
    assert len(server.asked) < 250


def test_a_batch_that_breaks_off_goes_on_with_the_same_keys(
    client: Any, server: Script
) -> None:
    broken: list[int] = []

    def value(params: Any) -> Any:
        if params % 5 == 2 and params not in broken:
            broken.append(params)
            return Reset()
        return params

    server.handler = by_params(value)
    assert list(client.map("f", range(20), concurrency=6)) == list(range(20))
    assert sorted(broken) == [2, 7, 12, 17]
    keys = {(line.key, line.json["params"]) for line in server.lines}
    assert len(server.lines) > 20
    assert len(keys) == len({key for key, _ in keys}) == 20


def test_a_line_that_is_refused_for_the_moment_is_sent_again_alone(
    client: Any, server: Script
) -> None:
    full = [Say(429, error("queue_full")), Say(503, error("no_worker"))]
    server.handler = by_params(
        lambda params: full.pop() if params == 1 and full else params * 2
    )
    assert list(client.map("f", range(4), concurrency=4)) == [0, 2, 4, 6]
    again = [len(asked.lines) for asked in server.asked if asked.lines[0].json["params"] == 1]
    assert again[-2:] == [1, 1]


def test_a_line_that_stays_refused_is_an_error_at_its_place(
    client: Any, server: Script
) -> None:
    server.handler = by_params(
        lambda params: Say(503, error("no_worker")) if params == 1 else params
    )
    first, second, third = client.map("f", range(3), return_exceptions=True)
    assert (first, third) == (0, 2)
    assert isinstance(second, Unavailable)
    assert len([line for line in server.lines if line.json["params"] == 1]) == 7


@pytest.mark.parametrize(
    "body",
    [b'{"index": 0, "st', b'{"index": 7, "status": 200}\n', b"\n", b'{"index": 0}\n'],
)
def test_a_stranger_who_answers_a_batch_is_told_apart(
    client: Any, server: Script, body: bytes
) -> None:
    server.acts = [Pieces([body]) for _ in range(10)]
    with pytest.raises(SkepError):
        list(client.map("f", [0]))


def test_the_rest_of_a_wait_is_asked_call_by_call(client: Any, server: Script) -> None:
    def handle(asked: Asked) -> Any:
        if asked.method == "GET":
            return Say(200, call(result="late", number=number_of(asked.path)))
        number = asked.json["params"]
        return Say(202, call("RUNNING", number=number))

    server.handler = handle
    assert list(client.map("f", [3, 4])) == ["late", "late"]
    assert {asked.path for asked in server.asked if asked.method == "GET"} == {
        "/call/3?wait=60.000", "/call/4?wait=60.000",
    }  # fmt: skip


def test_map_with_a_wait_does_not_outstay_it(client: Any, server: Script) -> None:
    server.handler = lambda _: Say(202, call("RUNNING"))
    (value,) = client.function("f", wait=0).map([1], return_exceptions=True)
    assert isinstance(value, StillRunning)
    assert [asked.path for asked in server.asked] == ["/invokeFunctions?wait=0.001"]


def test_records_of_many_calls_go_on_from_anywhere(client: Any, server: Script) -> None:
    server.handler = by_params(
        lambda params: Say(200, failed(number=params)) if params == 5 else params
    )
    calls = list(client.map_calls("f", [4, 5], idempotency_key="job", first=4, timeout=3.0))
    assert [record["status"] for record in calls] == ["DONE", "FAILED"]
    assert {line.key for line in server.lines} == {"job:4", "job:5"}
    assert {line.json["timeout"] for line in server.lines} == {3.0}
