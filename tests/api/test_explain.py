"""What a record tells of a call: why this node, why cold or warm, where its time went."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import moments
from api.ledger import Way
from api.live import Live
from api.policy import Choice, Offer
from api.revival import revive
from api.telling import way, why
from api.tries import Blocked, Try
from tests.api.test_dispatch import Scene
from wire.messages import ColdBecause, Made, Outcome, Returned, Start
from wire.models import Attempt, Call, CallRecord, Fault, Reason, Status, Warmth

DONE = Outcome(status=Status.DONE, waited_ms=2.0, duration_ms=3.0, miniworker="m1")
COLD = Outcome(
    status=Status.DONE,
    waited_ms=1.0,
    duration_ms=4.0,
    start=Warmth.COLD,
    miniworker="m1",
    made=Made(ColdBecause.FIRST, {"fetch": 100.0, "install": 300.0, "sandbox": 50.0}),
)
FULL = Reason(code="no_space", message="the disk is full")


def last(call: Live) -> Attempt:
    return call.call().attempts[-1]


def offer(free: int = 3) -> Offer:
    return Offer(1, free=free, idle=0, ahead=0, slots=4, attempts=1)


def tried(
    chosen: Way, nodes: int, rivals: int, *, beside: bool = False, **facts: object
) -> Try:
    choice = Choice(offer(), chosen, nodes, rivals, beside=beside)
    return Try(1, "node1", choice=choice, **facts)  # type: ignore[arg-type]


IDLE = "by warm-first: a warm sandbox of this function was idle on node1, "
NONE = "by warm-first: no warm sandbox of this function was idle; "
BEHIND = f"{NONE}its calls are short, so it went behind a running one on node1, "
ORDERED = f"{NONE}one was ordered on node1, "
GONE = Made("a code of a later release")


@pytest.mark.parametrize(
    ("one", "public", "words"),
    [
        (tried(Way.IDLE, 1, 1), "idle", f"{IDLE}the only node"),
        (tried(Way.IDLE, 5, 2), "idle", f"{IDLE}the least loaded of 2 nodes with one"),
        (
            tried(Way.AHEAD, 2, 1),
            "ahead",
            f"{BEHIND}the only one of 2 nodes with such a place",
        ),
        (
            tried(Way.AHEAD, 1, 1, beside=True),
            "ahead",
            (
                f"{NONE}its sandboxes run several calls, so it went beside running ones on "
                "node1, the only node"
            ),
        ),
        (
            tried(Way.COLD, 3, 3, warmth=Warmth.COLD, made=Made(ColdBecause.IDLE)),
            "cold",
            (
                f"{ORDERED}the least loaded of 3 nodes with a free slot (3 of 4 free); "
                "cold because the last one there had been idle for too long"
            ),
        ),
        (
            tried(Way.COLD, 1, 1, warmth=Warmth.COLD, made=Made("first", {}, "python")),
            "cold",
            (
                f"{ORDERED}the only node (3 of 4 free); cold because none of this function had "
                "been there since its worker started; a waiting generic sandbox of python was "
                "taken, and the function loaded into it"
            ),
        ),
        (
            tried(Way.COLD, 1, 1, warmth=Warmth.WARM),
            "idle",
            (
                f"{ORDERED}the only node (3 of 4 free); "
                "a warm one became free there before the new one was ready"
            ),
        ),
        (
            tried(Way.AHEAD, 1, 1, warmth=Warmth.COLD, made=GONE),
            "cold",
            (
                f"{BEHIND}the only node; "
                "that one was gone when it came, so one was made (none was there)"
            ),
        ),
        (
            tried(Way.IDLE, 1, 1, waited_s=1.234, blocked=Blocked.SLOT),
            "idle",
            f"waited 1.2 s: no node had a free slot; {IDLE}the only node",
        ),
        (
            tried(Way.IDLE, 1, 1, waited_s=0.02, blocked=Blocked.TURN, finished=5.0),
            "idle",
            (
                f"waited 20 ms: other calls of its function were before it; {IDLE}the only "
                "node; it was handed back before it began"
            ),
        ),
        (
            Try(1, "node1", told_way="ahead", told_why="as it was told"),
            "ahead",
            "as it was told",
        ),
        (Try(1, "node1"), None, ""),
    ],
)
def test_facts_become_words(one: Try, public: str | None, words: str) -> None:
    assert (way(one), why(one, [])) == (public, words)


@pytest.mark.parametrize("because", list(ColdBecause))
def test_every_cause_of_a_cold_start_has_words(because: ColdBecause) -> None:
    told = why(tried(Way.COLD, 1, 1, warmth=Warmth.COLD, made=Made(because)), [])
    assert "cold because" in told
    assert "none was there" not in told


def test_a_warm_call_on_the_less_loaded_node() -> None:
    scene = Scene()
    for name in ("node1", "node2"):
        scene.credit(scene.join(name), 2, 2)
    scene.accept(1)
    call = scene.accept(2)
    assert (last(call).way, last(call).node) == ("idle", "node2")
    assert "the least loaded of 2 nodes with one" in last(call).why
    public = call.call()
    assert (public.timeout, public.max_wait, public.memory) == (5.0, 600.0, 256)


def test_stages_of_a_warm_call() -> None:
    scene = Scene()
    session = scene.join()
    call = scene.accept(1)
    assert call.call().stages == {}
    scene.now += 1.5
    scene.credit(session, 1, 1)
    assert call.call().stages == {"queued": 1500.0}
    scene.now += 1
    scene.result(session, 1)
    assert call.call().stages == {"queued": 1500.0, "wait": 2.0, "run": 3.0}
    assert last(call).why.startswith(
        "waited 1.5 s: no node had a free slot; by warm-first: a warm"
    )


def test_stages_of_a_cold_call_that_has_to_be_stored_first() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1)
    call = scene.accept(1, sync=False)
    scene.now += 0.25
    scene.store()
    assert last(call).way == "cold"
    scene.now += 0.5
    scene.ready(session, 1)
    scene.now += 0.25
    scene.store()
    scene.now += 1
    scene.result(session, 1, outcome=COLD)
    stages = call.call().stages
    assert stages == {
        "store": 500.0, "fetch": 100.0, "install": 300.0, "sandbox": 50.0, "wait": 1.0,
        "run": 4.0,
    }  # fmt: skip
    assert last(call).why.endswith("since its worker started")


def test_a_prepared_call_that_gets_a_sandbox_which_became_idle() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1)
    call = scene.accept(1)
    scene.now += 2
    scene.credit(session, 1, 1, seen=1)
    assert len(scene.sent(Start)) == 1
    assert last(call).way == "idle"
    scene.now += 1
    scene.result(session, 1)
    assert call.call().stages == {"wait": 2002.0, "run": 3.0}
    assert "a warm one became free there before the new one was ready" in last(call).why


def test_the_attempt_after_a_failed_one_tells_what_was_avoided() -> None:
    scene = Scene()
    first, second = scene.join("node1"), scene.join("node2")
    scene.credit(first, 1)
    call = scene.accept(1)
    returned = Returned(session=first.number, call=1, attempt=1, fault=Fault.NODE, reason=FULL)
    scene.did(scene.dispatch.returned(first, returned, scene.now))
    scene.credit(second, 1)
    scene.passes(1)
    assert last(call).node == "node2"
    told = last(call).why
    assert told.startswith("waited 1.0 s: a failed attempt is not repeated at once; ")
    assert "node1 was avoided: no_space there before" in told
    assert call.call().stages == {"earlier": 1000.0}


def test_why_a_call_never_started_names_the_limit_and_what_was_missing() -> None:
    scene = Scene()
    lonely, busy, cold = scene.accept(1), scene.accept(2), scene.accept(3)
    scene.passes(601)
    for call, words in (
        (lonely, "no node was there to take it"),
        (busy, "other calls of its function were before it"),
        (cold, "other calls of its function were before it"),
    ):
        assert call.reason is not None
        assert call.reason.code == "never_started"
        assert call.reason.message == (
            f"it could not start within its maxWait of 600 s: {words}"
        )
        assert call.call().stages == {"queued": 601_000.0}


def test_a_sandbox_that_is_not_ready_in_time_is_named_as_such() -> None:
    scene = Scene()
    scene.credit(scene.join(), 1)
    call = scene.accept(1)
    scene.passes(601)
    assert call.reason is not None
    assert call.reason.message.endswith("its sandbox was not ready")


def test_what_an_earlier_life_told_is_kept_and_nothing_is_counted_twice() -> None:
    scene = Scene()
    session = scene.join()
    call = scene.accept(1, sync=False)
    scene.now += 1
    scene.store()
    scene.now += 1
    scene.credit(session, 1, 1)
    scene.store()
    record = call.record("api", 1)
    assert record.call.stages["queued"] == 1000.0
    again = revive(record, call.spec, scene.now, call.accepted_ms + 2000)
    public = again.call()
    assert (public.attempts[0].way, public.attempts[0].why) == ("idle", last(call).why)
    assert public.stages == {"queued": 1000.0}
    again.take_outcome(DONE, scene.now)
    assert again.call().stages == {"queued": 1000.0, "wait": 2.0, "run": 3.0}


def test_a_call_that_was_never_sent_off_goes_on_waiting_after_a_restart() -> None:
    scene = Scene()
    record = scene.accept(1).record("api", 1)
    again = revive(record, scene.dispatch.calls[1].spec, 500.0, wall(record.call) + 3000)
    scene.dispatch.recover(again)
    scene.now = 500.0
    session = scene.join()
    scene.did(scene.dispatch.judge("requeue", scene.now))
    scene.credit(session, 1, 1)
    assert again.call().stages["queued"] == pytest.approx(3000, abs=2)


def wall(call: Call) -> int:
    return 1_700_000_000_000 if call.accepted_at.startswith("2023") else 0


def test_records_of_an_earlier_release_can_be_read() -> None:
    scene = Scene()
    scene.credit(scene.join(), 1, 1)
    plain = msgspec.json.decode(msgspec.json.encode(scene.accept(1).record("api", 1)))
    for name in ("timeout", "maxWait", "memory", "stages"):
        del plain["call"][name]
    for attempt in plain["call"]["attempts"]:
        del attempt["way"], attempt["why"]
    call = msgspec.json.decode(msgspec.json.encode(plain), type=CallRecord).call
    assert (call.stages, call.timeout, call.memory) == ({}, None, None)
    assert (call.attempts[0].way, call.attempts[0].why) == (None, "")


def test_an_outcome_of_an_earlier_release_can_be_read() -> None:
    plain = msgspec.to_builtins(DONE)
    assert msgspec.convert(plain[:-1], type=Outcome) == DONE


def test_calls_that_are_due_at_once_go_in_the_order_of_their_acceptance() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 3)
    calls = [scene.accept(num) for num in (1, 2, 3)]
    for call in reversed(calls):
        returned = Returned(
            session=session.number, call=call.num, attempt=1, fault=Fault.NODE, reason=FULL
        )
        scene.did(scene.dispatch.returned(session, returned, scene.now))
        scene.now += 0.01
    scene.credit(session, 0, 0, seen=3)
    fresh = scene.accept(4)
    scene.passes(0.49)
    scene.passes(0.3)
    scene.credit(session, 4, 4, seen=3)
    started = [start.call for start in scene.sent(Start)]
    assert started == [1, 2, 3, fresh.num]


@given(st.integers(0, 4_000_000_000_000))
def test_moments_come_back(wall_ms: int) -> None:
    assert moments.wall_ms(moments.iso(wall_ms)) == wall_ms
    assert moments.iso(wall_ms)[-5] == "."


def test_a_start_says_which_credit_it_spends() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1, ahead=1)
    scene.accept(1)
    behind = scene.accept(2)
    assert [start.ahead for start in scene.sent(Start)] == [False, True]
    assert last(behind).way == "ahead"
