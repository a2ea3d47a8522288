"""Waiting for a call: in steps, through restarts, and no longer than was said."""

from __future__ import annotations

from typing import Any

import pytest

from skep import NotReachable, StillRunning
from tests.skep.both import Clock, made
from tests.skep.scripted import Reset, Say, Script, call, error

DONE = call(result="ok")
PENDING = call("PENDING")
BUSY = Say(503, error("no_worker"))


def test_a_wait_outlasts_a_restart_even_without_retries(
    kind: str, server: Script, clock: Clock
) -> None:
    server.acts += [Say(202, PENDING), *[Reset()] * 5, BUSY, Say(200, PENDING), Say(200, DONE)]
    with made(kind, server.url, clock=clock, retries=0) as client:
        assert client.submit("f").result() == "ok"
    assert {asked.path for asked in server.asked[1:]} == {"/call/7?wait=60.000"}


def test_a_wait_ends_when_skep_is_away_for_longer_than_the_timeout(
    kind: str, server: Script, clock: Clock
) -> None:
    server.acts += [Say(202, PENDING), *[Reset()] * 99]
    with made(kind, server.url, clock=clock, timeout=30) as client:
        handle = client.submit("f")
        with pytest.raises(NotReachable):
            handle.wait()
        assert 20 <= sum(clock.slept) <= 30


def test_the_time_that_skep_was_asked_to_wait_is_no_part_of_the_timeout(
    kind: str, server: Script
) -> None:
    clock = Clock()

    def answer(_: Any) -> Any:
        # Nearly a minute in which nothing had to be said.
        clock.now += 59
        return Say(202, PENDING) if len(server.asked) > 3 else Reset()

    server.handler = answer
    with made(kind, server.url, clock=clock, timeout=30) as client:
        assert client.submit_call("f", wait=200)["status"] == "PENDING"
    assert len({asked.key for asked in server.asked[:4]}) == 1


def test_result_in_time_or_timeout_error_and_the_call_goes_on(
    client: Any, server: Script, clock: Clock
) -> None:
    def answer(asked: Any) -> Any:
        if asked.method == "GET":
            clock.now += float(asked.path.partition("wait=")[2])
        return Say(202, PENDING)

    server.handler = answer
    handle = client.submit("f")
    with pytest.raises(TimeoutError, match="call 7 of f has not ended within 130 s") as caught:
        handle.result(130)
    assert isinstance(caught.value, StillRunning)
    assert (caught.value.code, caught.value.record) == ("still_running", PENDING)
    asked = [one.path for one in server.asked[1:]]
    assert asked == ["/call/7?wait=60.000", "/call/7?wait=60.000", "/call/7?wait=10.000"]
    assert all(one.method != "DELETE" for one in server.asked)
