"""The headers of W3C Trace Context: what is taken, what is ignored, what is passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.traces import MAX_STATE_CHARS, NO_TRACE, Trace, read_trace, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"
HEX = st.sampled_from("0123456789abcdef")


def hexes(count: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=count, max_size=count)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (GOOD, GOOD),
        (f"  {GOOD}\t", GOOD),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # A later version may say more; what is known of it is passed on.
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", GOOD),
        (f"cc-{TRACE}-{SPAN}-ff", GOOD),
        (f"01-{TRACE}-{SPAN}-02", f"00-{TRACE}-{SPAN}-00"),
    ],
)
def test_what_is_taken(sent: str, taken: str) -> None:
    assert read_trace([sent], []) == Trace(taken)
    assert trace_id(taken) == TRACE


@pytest.mark.parametrize(
    "sent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"{GOOD}\n",
        f"{GOOD},{GOOD}",
    ],
)
def test_what_breaks_the_rules_is_as_if_it_had_not_come(sent: str) -> None:
    assert read_trace([sent], ["a=1"]) == NO_TRACE


def test_two_headers_are_none() -> None:
    assert read_trace([GOOD, GOOD], []) == NO_TRACE
    assert read_trace([], ["a=1"]) == NO_TRACE
    assert trace_id("") is None


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (["a=1,b=2"], "a=1,b=2"),
        (["a=1", " b=2 ,, c=3"], "a=1,b=2,c=3"),
        (["tenant@vendor=x y"], "tenant@vendor=x y"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a=1\x00"], ""),
        (["a=ü"], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        ([f"a={'x' * 200},b={'x' * 200},c={'x' * 200}"], ""),
        ([""], ""),
    ],
)
def test_a_wrong_tracestate_is_dropped_alone(sent: list[str], taken: str) -> None:
    assert read_trace([GOOD], sent) == Trace(GOOD, taken)


@given(hexes(32), hexes(16), hexes(2))
def test_every_version_0_comes_through_unchanged(trace: str, span: str, flags: str) -> None:
    sent = f"00-{trace}-{span}-{flags}"
    expected = sent if trace.strip("0") and span.strip("0") else ""
    assert read_trace([sent], []).parent == expected


@given(st.lists(st.text(max_size=80), max_size=3), st.lists(st.text(max_size=600), max_size=3))
def test_whatever_comes_what_is_passed_on_is_sound(
    parents: list[str], states: list[str]
) -> None:
    trace = read_trace(parents, states)
    assert trace.parent == "" or len(trace.parent) == len(GOOD)
    assert len(trace.state) <= MAX_STATE_CHARS
    assert (trace.parent + trace.state).isascii()
    assert (trace.parent + trace.state).isprintable()
