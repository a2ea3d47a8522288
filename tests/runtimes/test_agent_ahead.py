"""Calls ahead and kills that cross: each call has one answer, and the mark says what began."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from miniworker import agent
from tests.conftest import eventually
from tests.runtimes.bare import Bare

SOURCE = """
import os, time
calls = 0
def main(sleep_s=0.0, exit=None, print_=0):
    global calls
    calls += 1
    print("x" * print_, end="", flush=True)
    open("begun", "w").close()
    time.sleep(sleep_s)
    if exit is not None:
        os._exit(exit)
    return calls
"""
ISOLATIONS = pytest.mark.parametrize("isolation", ["none", "fork"])


def answers(bare: Bare, count: int) -> list[tuple[agent.Result, bytes]]:
    heard: list[tuple[agent.Result, bytes]] = []
    while len(heard) < count:
        heard += bare.hear(bare.data)
    assert len(heard) == count
    return heard


def results(bare: Bare, count: int) -> list[tuple[int, bytes]]:
    return [(result.attempt, body) for result, body in answers(bare, count)]


@ISOLATIONS
def test_calls_ahead_run_in_order(isolation: str) -> None:
    with Bare(SOURCE, isolation=isolation) as bare:
        for attempt in range(1, 17):
            bare.call(attempt)
        state = [b"%d" % n if isolation == "none" else b"1" for n in range(1, 17)]
        assert results(bare, 16) == list(zip(range(1, 17), state, strict=True))
        assert bare.mark.read() == 16


@ISOLATIONS
def test_a_kill_leaves_those_behind_for_the_next_host(isolation: str) -> None:
    with Bare(SOURCE, isolation=isolation) as bare:
        bare.call(1, b'{"sleep_s": 600, "print_": 5}')
        for attempt in (2, 3, 4):
            bare.call(attempt)
        eventually((bare.work / "begun").exists)
        assert bare.mark.read() == 1
        bare.kill(1)
        heard = bare.hear(bare.control)
        exit_, body = heard[0]
        assert (exit_.attempt, exit_.began, exit_.ready, body) == (1, True, False, b"xxxxx")
        assert [attempt for attempt, _ in results(bare, 3)] == [2, 3, 4]
        assert (heard[1:] or bare.hear(bare.control))[0][0] == agent.Ready()


@ISOLATIONS
def test_a_host_that_dies_leaves_those_behind_for_the_next(isolation: str) -> None:
    with Bare(SOURCE, isolation=isolation) as bare:
        bare.call(1, b'{"exit": 3}')
        bare.call(2)
        (first, _), (second, _) = answers(bare, 2)
        assert (first.attempt, first.status, first.code) == (1, "FAILED", "exit_code")
        assert first.ready == (isolation == "fork")
        assert (second.attempt, second.status) == (2, "DONE")


@pytest.mark.parametrize("entry", ["hello.main", ""])
def test_kills_of_what_waits_and_of_what_runs(entry: str) -> None:
    source = SOURCE if entry else "import json, sys, time\ntime.sleep(json.load(sys.stdin))"
    with Bare(source, entry) as bare:
        bare.call(1, b"[600]" if entry else b"600")
        for attempt in (2, 3):
            bare.call(attempt, b"[0]" if entry else b"0")
        eventually(lambda: bare.mark.read() == 1)
        bare.kill(2)
        skipped = bare.hear(bare.control)[0][0]
        assert (skipped.attempt, skipped.began) == (2, False)
        bare.kill(1)
        killed = bare.hear(bare.control)[0][0]
        assert (killed.attempt, killed.began) == (1, True)
        assert [attempt for attempt, _ in results(bare, 1)] == [3]


def test_a_kill_of_what_has_not_begun_skips_it() -> None:
    with Bare(SOURCE) as bare:
        bare.call(1, b'{"sleep_s": 0.3}')
        eventually(lambda: bare.mark.read() == 1)
        for attempt in (2, 3):
            bare.call(attempt)
        bare.kill(2)
        exit_ = bare.hear(bare.control)[0][0]
        assert (exit_.attempt, exit_.began, exit_.ready) == (2, False, True)
        assert results(bare, 2) == [(1, b"1"), (3, b"2")]


def test_a_kill_of_what_has_ended_touches_nothing() -> None:
    with Bare(SOURCE) as bare:
        for attempt in range(1, 40):
            bare.call(attempt)
            bare.kill(attempt - 1)
            assert results(bare, 1) == [(attempt, b"%d" % attempt)]


def test_a_kill_at_any_moment_is_answered_once() -> None:
    """A call that is killed while it ends has one answer, or takes its agent with it."""
    for _ in range(5):
        with Bare(SOURCE) as bare, contextlib.suppress(EOFError):
            for attempt in range(1, 30):
                bare.call(attempt, b'{"sleep_s": %.4f}' % (attempt % 4 * 0.0002))
                bare.kill(attempt)
                answer, *more = _either(bare)
                assert answer.attempt == attempt
                if isinstance(answer, agent.Exit) and not answer.ready:
                    more = more or [bare.hear(bare.control)[0][0]]
                    assert more.pop() == agent.Ready()
                assert not more


def _either(bare: Bare) -> list[Any]:
    frames: list[Any] = []

    def read() -> list[Any]:
        for channel in (bare.control, bare.data):
            channel.flush()
            frames.extend(message for message, _ in channel.read())
        return frames

    eventually(read)
    return frames


def test_the_end_of_a_connection_ends_it() -> None:
    with Bare(SOURCE) as bare:
        bare.call(1, b'{"sleep_s": 600}')
        eventually(lambda: bare.mark.read() == 1)


@ISOLATIONS
def test_what_is_revoked_never_begins(isolation: str) -> None:
    with Bare(SOURCE, isolation=isolation) as bare:
        bare.call(1, b'{"sleep_s": 0.3}')
        for attempt in (2, 3):
            bare.call(attempt)
        eventually((bare.work / "begun").exists)
        assert bare.mark.revoke(3) == 1
        bare.call(4)
        state = b"2" if isolation == "none" else b"1"
        assert results(bare, 2) == [(1, b"1"), (4, state)]
        assert bare.mark.read() == 4


def test_what_is_revoked_at_any_moment_runs_or_does_not() -> None:
    with Bare(SOURCE) as bare:
        ran, first = 0, 1
        for _ in range(100):
            last = first + 3
            for attempt in range(first, last + 1):
                bare.call(attempt)
            begun = bare.mark.revoke(last)
            bare.call(last + 1)
            while True:
                said = [word for word, _ in bare.hear(bare.data)]
                for word in said:
                    if isinstance(word, agent.Result):
                        ran += 1
                        assert word.attempt <= max(begun, 0) or word.attempt == last + 1
                    else:
                        assert (word.attempt, word.began) == (begun, False)
                if said and said[-1].attempt == last + 1:
                    break
            first = last + 2
        bare.call(first)
        assert results(bare, 1) == [(first, b"%d" % (ran + 1))]
