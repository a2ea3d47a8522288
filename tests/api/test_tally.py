"""What dispatch counts, by events of every kind: nothing twice, nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.ledger import Way
from api.live import Live
from api.outbox import Outbox
from api.tally import OTHERS, STAGES, Tally
from wire.models import Function, Runtime, Spec, Status

NAMES = ("dice", "cat", "sum")
TERMINAL = [status for status in Status if status.is_terminal]
MOMENTS = st.none() | st.floats(0, 100)


def ended(
    name: str, status: Status, dispatched: float | None, started: float | None, ran: bool
) -> Live:
    function = Function(function_name=name, runtime_name="py", revision=1)
    return Live(
        num=1,
        uuid="u",
        spec=Spec(function=function, runtime=Runtime(name="py", image="", path="/")),
        params=b"{}",
        timeout_ms=1000,
        max_wait_ms=1000,
        sync=False,
        accepted=1.0,
        accepted_ms=0,
        status=status,
        dispatched=dispatched,
        started=started,
        finished=50.0,
        duration_ms=250.0 if ran else None,
    )


ENDS = st.builds(
    ended, st.sampled_from(NAMES), st.sampled_from(TERMINAL), MOMENTS, MOMENTS, st.booleans()
)
FOLDS = st.sets(st.sampled_from(NAMES))


@given(st.lists(ENDS | FOLDS, max_size=30), FOLDS)
def test_whatever_is_deleted_meanwhile_the_sums_are_right(
    events: list[Live | set[str]], known: set[str]
) -> None:
    tally = Tally()
    for event in events:
        if isinstance(event, Live):
            tally.ended(event)
        else:
            tally.fold(event)
    tally.fold(known)
    calls = [event for event in events if isinstance(event, Live)]
    assert tally.calls.total() == len(calls)
    assert {name for name, _ in tally.calls} <= known | {OTHERS}
    assert set(tally.run_s) <= known | {OTHERS}
    assert sum(tally.run_s.values()) == 0.25 * sum(c.duration_ms is not None for c in calls)
    counts = {stage: sum(tally.stages[stage].counts) for stage in STAGES}
    assert counts["total"] == len(calls)
    assert counts["queued"] == sum(c.dispatched is not None for c in calls)
    assert counts["run"] == sum(c.duration_ms is not None for c in calls)
    assert counts["prepare"] <= counts["queued"]
    assert all(tally.stages[stage].total >= 0 for stage in STAGES)


def test_hits_are_starts_that_needed_no_new_sandbox() -> None:
    tally = Tally()
    assert tally.hit_ratio is None
    for way in (Way.IDLE, Way.AHEAD, Way.READY, Way.READY):
        tally.started(way)
    assert tally.starts == {"idle": 1, "ahead": 1, "cold": 2}
    assert tally.hit_ratio == 0.5


@given(st.lists(st.sampled_from(["take", "acked"]) | st.integers(1, 3), max_size=40))
def test_the_oldest_record_of_the_outbox_is_the_one_that_waits_longest(
    events: list[str | int],
) -> None:
    """Against the simplest model: the time of the first change that is not durable."""
    outbox = Outbox(max_records=100, max_bytes=10_000)
    waiting: dict[int, float] = {}
    under_way: dict[int, float] = {}
    for moment, event in enumerate(events):
        now = float(moment)
        if isinstance(event, int):
            outbox.put(event, moment + 1, 10, now)
            waiting.setdefault(event, now)
        elif event == "take" and not under_way:
            outbox.take()
            under_way, waiting = waiting, {}
        elif event == "acked":
            outbox.acked()
            under_way = {}
        assert outbox.oldest == min((*waiting.values(), *under_way.values()), default=None)
        assert outbox.size == 10 * (len(waiting) + len(under_way))
