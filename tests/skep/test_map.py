"""Many calls of one function: in order, bounded, lazily, and stopped cleanly."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from skep import CallFailed, SkepError
from tests.conftest import eventually
from tests.skep.scripted import Hold, Say, Script, by_params, call, error, failed


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
    asked = len(server.asked)
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
    assert [asked.key for asked in server.asked] == ["job:0", "job:1", "job:2"]


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
    eventually(lambda: len(server.asked) >= 4)
    # Three calls are still waited for; nobody waits for them to close it.
    values.close()
    let_go.set()
    assert len(server.asked) <= 5
