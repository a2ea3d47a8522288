"""Silence judged by tables: alive, silent, lost, and the judge who slept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.liveness import Liveness, Pulse


@pytest.mark.parametrize(
    ("silence_s", "pulse"),
    [
        (0, Pulse.ALIVE),
        (2.9, Pulse.ALIVE),
        (3, Pulse.SILENT),
        (9.9, Pulse.SILENT),
        (10, Pulse.LOST),
    ],
)
def test_silence(silence_s: float, pulse: Pulse) -> None:
    liveness: Liveness[str] = Liveness()
    liveness.heard("n", 100.0)
    assert liveness.judge(100.0 + silence_s) == {"n": pulse}


def test_a_judge_who_slept_gives_everyone_a_fresh_limit() -> None:
    liveness: Liveness[str] = Liveness()
    liveness.heard("n", 100.0)
    liveness.judge(100.0)
    assert liveness.slept(130.0)
    assert liveness.judge(130.0) == {"n": Pulse.ALIVE}
    for second in range(1, 10):
        liveness.judge(130.0 + second)
    assert liveness.judge(140.0) == {"n": Pulse.LOST}


def test_forgotten_peers_are_not_judged() -> None:
    liveness: Liveness[str] = Liveness()
    liveness.heard("n", 0.0)
    liveness.forget("n")
    liveness.forget("stranger")
    assert liveness.judge(99.0) == {}


@given(st.lists(st.floats(0, 1.9), max_size=40), st.sets(st.integers(0, 40)))
def test_who_speaks_within_the_limit_is_never_lost(steps: list[float], words: set[int]) -> None:
    liveness: Liveness[str] = Liveness()
    now = spoke = 0.0
    liveness.heard("n", now)
    for number, step in enumerate(steps):
        now += step
        if number in words:
            liveness.heard("n", now)
            spoke = now
        pulse = liveness.judge(now)["n"]
        assert (pulse is Pulse.LOST) == (now - spoke >= 10)
