"""Dispatch by scenes: one situation each, events in, actions out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
import pytest

from api import fates
from api.actions import Action, Ended, Hint, Send, Settled, Write
from api.backlog import Backlog
from api.dispatch import ACCEPT_S, Dispatch, Output
from api.live import Live
from api.phase import Phase
from api.roster import Roster, Session
from api.tries import Blocked, Try
from tests.api.model import ModelWorker, live, spec
from wire.codec import Message
from wire.liveness import Pulse
from wire.messages import (
    Cancel,
    Credit,
    Outcome,
    Prepare,
    Ready,
    Recorded,
    Result,
    Returned,
    Start,
    Warm,
)
from wire.models import Reason, Status

KEY = "default/dice@1.1"
M = TypeVar("M", bound=Message)
DONE = Outcome(status=Status.DONE, waited_ms=2.0, duration_ms=3.0, miniworker="m1")


class Scene:
    """Dispatch with a store that acknowledges on request, and all it decided."""

    def __init__(self) -> None:
        self.now = 100.0
        self.roster = Roster()
        backlog = Backlog(max_calls=100, max_bytes=1 << 20)
        self.dispatch = Dispatch(self.roster, backlog, api="api", epoch=1)
        self.actions: list[Action] = []

    def did(self, actions: Iterable[Action]) -> None:
        self.actions += actions

    def join(
        self, name: str = "node1", *, life: int = 1, running: tuple[tuple[int, int], ...] = ()
    ) -> Session:
        hello = msgspec.structs.replace(ModelWorker(name, life=life).hello(), running=running)
        route = f"{name}{life}{len(self.actions)}".encode()
        session, actions = self.dispatch.hello(route, hello, ("e", 1), self.now)
        self.did(actions)
        return session

    def credit(
        self,
        session: Session,
        free: int,
        idle: int = 0,
        *,
        seen: int = 0,
        ahead: int = 0,
        lent: int = 0,
    ) -> None:
        warm = (Warm(KEY, idle, ahead),)
        credit = Credit(session=session.number, seen=seen, free=free, lent=lent, warm=warm)
        self.did(self.dispatch.credit(session, credit, self.now))

    def accept(self, num: int, *, sync: bool = True, idempotent: bool = False) -> Live:
        call = live(num, sync=sync, now=self.now, of=spec(idempotent=idempotent))
        self.did(self.dispatch.accept(call, self.now))
        return call

    def store(self) -> None:
        writes = [a for a in self.actions if isinstance(a, Write)]
        self.actions = [a for a in self.actions if not isinstance(a, Write)]
        for write in writes:
            self.did(self.dispatch.durable(write.live.num, write.live.rev, self.now))

    def result(
        self,
        session: Session,
        num: int,
        attempt: int = 1,
        outcome: Outcome = DONE,
        number: int = 1,
    ) -> None:
        result = Result(
            session=session.number, call=num, attempt=attempt, outcome=outcome, number=number
        )
        output = Output(b"1\n", b"out", b"err")
        self.did(self.dispatch.result(session, result, output, self.now))

    def ready(self, session: Session, num: int, attempt: int = 1) -> None:
        ready = Ready(session=session.number, call=num, attempt=attempt)
        self.did(self.dispatch.ready(session, ready, self.now))

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.did(self.dispatch.tick(self.now))

    def sent(self, kind: type[M]) -> list[M]:
        """Return the messages of a kind that were sent since the last time."""
        found = [a.message for a in self.actions if isinstance(a, Send)]
        self.actions = [
            a for a in self.actions if not (isinstance(a, Send) and isinstance(a.message, kind))
        ]
        return [message for message in found if isinstance(message, kind)]


def test_a_warm_synchronous_call_goes_at_once() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    (start,) = scene.sent(Start)
    assert (start.call, start.attempt, start.key, start.timeout_ms) == (1, 1, KEY, 5000)
    assert b'"params":null' in start.record
    scene.now += 1
    scene.result(session, 1)
    assert (call.status, call.result, call.rev) == (Status.DONE, "1", 2)
    public = call.call()
    assert public.started_at == "2023-11-14T22:13:20.002Z"
    assert public.finished_at == "2023-11-14T22:13:20.005Z"
    assert public.attempts[0].miniworker == "m1"
    assert scene.sent(Recorded) == []
    scene.store()
    assert [m.upto for m in scene.sent(Recorded)] == [1]
    assert any(isinstance(a, Settled) for a in scene.actions)


def test_a_lent_slot_takes_what_is_warm_and_nothing_that_has_to_be_made() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 0, lent=1)
    scene.accept(1)
    assert (scene.sent(Start), scene.sent(Prepare)) == ([], [])
    scene.credit(session, 0, 1, lent=1)
    assert [start.call for start in scene.sent(Start)] == [1]
    scene.accept(2)
    scene.credit(session, 0, 1, seen=1)
    assert (scene.sent(Start), scene.sent(Prepare)) == ([], [])
    scene.credit(session, 0, 1, seen=1, lent=1)
    assert [start.call for start in scene.sent(Start)] == [2]


def test_an_asynchronous_call_is_durable_before_it_goes_and_again_before_start() -> None:
    scene = Scene()
    session = scene.join()
    call = scene.accept(1, sync=False)
    assert (call.phase, scene.sent(Start)) == (Phase.ACCEPTING, [])
    scene.store()
    assert call.phase is Phase.QUEUED
    scene.credit(session, 1, 1)
    assert (call.phase, scene.sent(Start)) == (Phase.PERMITTED, [])
    assert (call.node_id, call.boot) == ("id-node1", "boot1")
    scene.store()
    assert len(scene.sent(Start)) == 1


@pytest.mark.parametrize("idempotent", [False, True])
def test_where_something_warm_waits_one_record_says_accepted_and_permitted(
    idempotent: bool,
) -> None:
    scene = Scene()
    scene.credit(scene.join(), 1, 1)
    call = scene.accept(1, sync=False, idempotent=idempotent)
    assert (call.phase, call.rev, scene.sent(Start)) == (Phase.PERMITTED, 1, [])
    assert (call.status, call.node_id) == (Status.PENDING, "id-node1")
    scene.store()
    assert (call.phase, len(scene.sent(Start))) == (Phase.STARTED, 1)


def test_nothing_is_made_for_a_call_that_is_not_durable() -> None:
    scene = Scene()
    scene.credit(scene.join(), 1)
    call = scene.accept(1, sync=False)
    assert (call.phase, scene.sent(Prepare)) == (Phase.ACCEPTING, [])
    scene.store()
    assert len(scene.sent(Prepare)) == 1


def _offered() -> tuple[Scene, Session, Live]:
    """Return a call whose place is chosen, and which is not durable yet."""
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    return scene, session, scene.accept(1, sync=False)


def test_a_call_that_is_not_stored_in_time_gives_back_what_it_was_to_begin_on() -> None:
    scene, session, call = _offered()
    assert session.ledger.free == 0
    scene.passes(ACCEPT_S)
    assert (call.status, call.reason) == (Status.CANCELLED, fates.NOT_STORED)
    assert (session.ledger.free, session.ledger.idle(KEY)) == (1, 1)
    scene.store()
    assert scene.sent(Start) == []


def test_a_call_whose_node_is_lost_before_it_is_durable_waits_for_that_again() -> None:
    scene, session, call = _offered()
    scene.did(scene.dispatch.lost(session, scene.now))
    assert (call.phase, call.node_id) == (Phase.ACCEPTING, None)
    scene.store()
    assert (call.phase, scene.sent(Start)) == (Phase.QUEUED, [])


def test_a_call_whose_node_is_lost_is_given_up_if_it_is_not_stored_in_time() -> None:
    scene, session, call = _offered()
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.passes(ACCEPT_S)
    assert (call.status, call.reason) == (Status.CANCELLED, fates.NOT_STORED)


def test_a_permitted_call_has_not_begun_when_its_session_is_lost() -> None:
    scene = Scene()
    session = scene.join()
    call = scene.accept(1, sync=False)
    scene.store()
    scene.credit(session, 1, 1)
    assert call.phase is Phase.PERMITTED
    scene.did(scene.dispatch.lost(session, scene.now))
    assert (call.phase, call.node_id) == (Phase.QUEUED, None)
    scene.store()
    assert scene.sent(Start) == []


def test_prepare_ready_start() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1)
    scene.accept(1)
    (prepare,) = scene.sent(Prepare)
    assert prepare.budget_ms == 600_000
    scene.ready(session, 1, attempt=2)
    assert scene.sent(Start) == []
    scene.ready(session, 1)
    scene.ready(session, 1)
    assert len(scene.sent(Start)) == 1
    assert session.ledger.sent == 2


def test_an_idle_sandbox_serves_what_was_prepared_first() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1)
    scene.accept(1)
    scene.accept(2)
    scene.credit(session, 1, 1, seen=1)
    assert [s.call for s in scene.sent(Start)] == [1]
    scene.ready(session, 1)
    assert scene.sent(Start) == []


def test_places_ahead_cost_no_slot() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 0, ahead=2)
    for num in (1, 2, 3):
        scene.accept(num)
    assert [s.call for s in scene.sent(Start)] == [1, 2]
    assert len(scene.dispatch.calls) == 3


def test_a_call_handed_back_from_behind_others_goes_on_at_once_and_in_the_end_alone() -> None:
    """The call before it was slow, its node is well: to wait longer each time helps nobody."""
    scene = Scene()
    session = scene.join()
    call = scene.accept(1)
    for turn in (1, 2, 3):
        scene.credit(session, 0, seen=turn - 1, ahead=2)
        (start,) = scene.sent(Start)
        assert (start.attempt, start.ahead) == (turn, True)
        back = Returned(session=session.number, call=1, attempt=turn)
        scene.did(scene.dispatch.returned(session, back, scene.now))
    assert call.blocked is Blocked.SLOT
    # A place behind another is for others now, and stays one.
    assert scene.sent(Start) == []
    scene.accept(2)
    scene.credit(session, 1, 1, seen=3, ahead=2)
    assert [(s.call, s.ahead) for s in scene.sent(Start)] == [(1, False), (2, True)]


def test_functions_take_turns() -> None:
    scene = Scene()
    session = scene.join()
    for num in (1, 2, 3):
        scene.accept(num)
    other = live(4, sync=True, now=scene.now, of=spec("coin"))
    scene.did(scene.dispatch.accept(other, scene.now))
    scene.credit(session, 2)
    assert [p.call for p in scene.sent(Prepare)] == [1, 4]


def test_a_silent_node_is_waited_for_and_its_result_still_counts() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    scene.did(scene.dispatch.lost(session, scene.now))
    assert (call.status, call.reason and call.reason.code) == (Status.RUNNING, "node_silent")
    scene.passes(9.9)
    again = scene.join(running=((1, 1),))
    assert (call.phase, call.reason) == (Phase.STARTED, None)
    scene.passes(60)
    scene.result(again, 1)
    assert call.status is Status.DONE


def test_silence_beyond_timeout_and_five_seconds_is_loss() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.passes(10.1)
    assert (call.status, call.reason and call.reason.code) == (Status.LOST, "node_silent")


def test_the_same_life_that_does_not_know_it_never_began_it() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.credit(scene.join(), 1, 1)
    assert [s.attempt for s in scene.sent(Start)] == [1, 2]
    assert call.status is Status.RUNNING


def test_a_late_result_of_an_older_attempt_changes_only_attempts() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1, idempotent=True)
    scene.did(scene.dispatch.lost(session, scene.now))
    other = scene.join("node2")
    scene.credit(other, 1, 1)
    assert [s.attempt for s in scene.sent(Start)] == [1, 2]
    back = scene.join(running=((1, 1),))
    assert [(c.call, c.attempt) for c in scene.sent(Cancel)] == [(1, 1)]
    failed = Outcome(status=Status.FAILED, reason=Reason(code="raised", message="no"))
    scene.result(back, 1, 1, failed)
    assert (call.status, call.attempt) == (Status.RUNNING, 2)
    assert [m.upto for m in scene.sent(Recorded)] == [1]
    scene.result(other, 1, 2)
    scene.result(other, 1, 2, failed, number=2)
    assert (call.status, call.result) == (Status.DONE, "1")
    assert sum(isinstance(a, Ended) for a in scene.actions) == 1


def test_three_deaths_are_enough() -> None:
    scene = Scene()
    call = scene.accept(1, idempotent=True)
    for life in (1, 2, 3):
        session = scene.join(life=life)
        scene.credit(session, 1, 1)
        scene.did(scene.dispatch.lost(session, scene.now))
    assert (call.status, len(call.tries)) == (Status.LOST, 3)


def test_a_lost_sandbox_is_repeated_only_if_it_may_be() -> None:
    died = Outcome(status=Status.LOST, reason=Reason(code="sandbox_lost", message="gone"))
    for idempotent, status in ((True, Status.RUNNING), (False, Status.LOST)):
        scene = Scene()
        session = scene.join()
        scene.credit(session, 2, 2)
        call = scene.accept(1, idempotent=idempotent)
        scene.result(session, 1, 1, died)
        assert call.status is status


def test_cancel_before_start_is_at_once_and_after_start_is_asked() -> None:
    scene = Scene()
    session = scene.join()
    queued = scene.accept(1)
    scene.did(scene.dispatch.cancel(1, scene.now))
    assert queued.status is Status.CANCELLED
    scene.credit(session, 1, 1)
    started = scene.accept(2)
    scene.did(scene.dispatch.cancel(2, scene.now))
    scene.did(scene.dispatch.cancel(2, scene.now))
    assert [c.call for c in scene.sent(Cancel)] == [2]
    assert sum(isinstance(a, Hint) for a in scene.actions) == 1
    assert started.status is Status.RUNNING
    scene.passes(5.1)
    assert (started.status, started.reason and started.reason.code) == (
        Status.CANCELLED,
        "unconfirmed",
    )


def test_a_result_that_was_first_wins_over_a_cancel() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1)
    scene.did(scene.dispatch.cancel(1, scene.now))
    scene.result(session, 1)
    assert call.status is Status.DONE


def test_a_cancelled_call_is_never_dispatched_again() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = scene.accept(1, idempotent=True)
    scene.did(scene.dispatch.cancel(1, scene.now))
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.credit(scene.join(life=2), 4, 4)
    assert call.status is Status.CANCELLED
    assert len(scene.sent(Start)) == 1


def test_what_keeps_coming_back_waits_a_little() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 9, 9)
    scene.accept(1)
    for attempt in (1, 2, 3):
        returned = Returned(session=session.number, call=1, attempt=attempt)
        scene.did(scene.dispatch.returned(session, returned, scene.now))
    assert [s.attempt for s in scene.sent(Start)] == [1, 2, 3]
    scene.passes(0.2)
    assert [s.attempt for s in scene.sent(Start)] == [4]


def test_an_acceptance_that_cannot_be_stored_is_withdrawn() -> None:
    scene = Scene()
    scene.credit(scene.join(), 1, 1)
    call = scene.accept(1, sync=False)
    scene.passes(5.1)
    assert call.status is Status.CANCELLED
    scene.store()
    assert scene.sent(Start) == []
    assert not scene.dispatch.calls


def test_max_wait_ends_what_never_started() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1)
    prepared, queued = scene.accept(1), scene.accept(2)
    scene.passes(600.1)
    for call in (prepared, queued):
        assert (call.status, call.reason and call.reason.code) == (
            Status.TIMEOUT,
            "never_started",
        )
    assert [c.call for c in scene.sent(Cancel)] == [1]


def test_a_silent_session_gets_nothing_new() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    scene.did(scene.dispatch.pulse(session, Pulse.SILENT, scene.now))
    scene.accept(1)
    assert scene.sent(Start) == []
    scene.did(scene.dispatch.pulse(session, Pulse.ALIVE, scene.now))
    assert len(scene.sent(Start)) == 1


def test_the_window_of_bytes_closes_and_opens() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 99, 99)
    for num in range(1, 12):
        call = live(num, sync=True, now=scene.now)
        call.params = b"1" * (1 << 20)
        scene.did(scene.dispatch.accept(call, scene.now))
    assert len(scene.sent(Start)) == 8
    credit = Credit(session=session.number, seen=8, free=99, received=4 << 20)
    scene.did(scene.dispatch.credit(session, credit, scene.now))
    assert len(scene.sent(Start)) == 3


def recovered(
    scene: Scene,
    *,
    sync: bool = False,
    idempotent: bool = False,
    node: str | None = None,
    at_once: int | None = None,
) -> Live:
    of = spec(idempotent=idempotent, at_once=at_once)
    call = live(7, sync=sync, now=scene.now, of=of)
    call.phase, call.rev, call.durable_rev = Phase.UNDECIDED, 3, 3
    if node is not None:
        call.tries.append(Try(1, node))
        call.node_id, call.boot, call.status = f"id-{node}", "boot1", Status.RUNNING
    scene.dispatch.recover(call)
    return call


def test_unfinished_calls_are_judged_by_policy() -> None:
    for policy, status in (("requeue", "PENDING"), ("fail", "LOST"), ("keep", "PENDING")):
        scene = Scene()
        call = recovered(scene)
        scene.did(scene.dispatch.judge(policy, scene.now))  # type: ignore[arg-type]
        assert call.status == status
        scene.credit(scene.join(), 1, 1)
        scene.store()
        assert len(scene.sent(Start)) == (policy == "requeue")


def test_a_call_that_is_kept_takes_a_place_until_it_is_known_not_to_run() -> None:
    scene = Scene()
    kept = recovered(scene, node="node1", at_once=1)
    scene.credit(scene.join("node2"), 2, 2)
    scene.did(scene.dispatch.judge("keep", scene.now))
    other = live(8, sync=True, now=scene.now, of=spec(at_once=1))
    scene.did(scene.dispatch.accept(other, scene.now))
    assert scene.sent(Start) == []
    scene.join("node1")
    assert [start.call for start in scene.sent(Start)] == [8]
    assert kept.phase is Phase.UNDECIDED


def test_unfinished_calls_that_may_have_started() -> None:
    scene = Scene()
    running = recovered(scene, node="node1")
    session = scene.join(running=((7, 1),))
    scene.did(scene.dispatch.judge("fail", scene.now))
    assert running.phase.value == "started"
    scene.result(session, 7)
    assert running.status is Status.DONE

    scene = Scene()
    dead = recovered(scene, node="node1")
    scene.join(life=2)
    scene.did(scene.dispatch.judge("requeue", scene.now))
    assert (dead.status, dead.reason and dead.reason.code) == (Status.LOST, "node_lost")

    scene = Scene()
    never = recovered(scene, node="node1")
    scene.join()
    scene.did(scene.dispatch.judge("requeue", scene.now))
    assert never.status is Status.PENDING

    scene = Scene()
    away = recovered(scene, node="node1")
    scene.did(scene.dispatch.judge("requeue", scene.now))
    assert (away.status, away.reason and away.reason.code) == (Status.RUNNING, "node_silent")
    scene.passes(10.1)
    assert away.status is Status.LOST


def test_a_synchronous_call_is_never_dispatched_again_after_a_restart() -> None:
    for node in (None, "node1"):
        scene = Scene()
        call = recovered(scene, sync=True, idempotent=True, node=node)
        scene.credit(scene.join(life=2), 1, 1)
        scene.did(scene.dispatch.judge("requeue", scene.now))
        assert (call.status, call.reason and call.reason.code) == (Status.LOST, "interrupted")


def test_calls_whose_session_is_lost_keep_their_order() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 3)
    for num in (1, 2, 3, 4):
        scene.accept(num)
    assert [p.call for p in scene.sent(Prepare)] == [1, 2, 3]
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.credit(scene.join(life=2), 4)
    assert [p.call for p in scene.sent(Prepare)] == [1, 2, 3, 4]


def test_calls_of_an_earlier_life_are_queued_in_their_order() -> None:
    scene = Scene()
    for num in (1, 2, 3):
        call = live(num, sync=False, now=scene.now, of=spec())
        call.phase, call.rev, call.durable_rev = Phase.UNDECIDED, 1, 1
        scene.dispatch.recover(call)
    scene.did(scene.dispatch.judge("requeue", scene.now))
    scene.credit(scene.join(), 3)
    assert [p.call for p in scene.sent(Prepare)] == [1, 2, 3]


def test_calls_that_never_began_are_queued_in_their_order() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 3, 3)
    for num in (1, 2, 3):
        scene.accept(num)
    assert [s.call for s in scene.sent(Start)] == [1, 2, 3]
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.credit(scene.join(), 3)
    assert [p.call for p in scene.sent(Prepare)] == [1, 2, 3]


def test_a_limited_function_runs_one_call_after_the_other() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 4, 4)
    first, second = (live(n, sync=True, of=spec(at_once=1)) for n in (1, 2))
    for call in (first, second):
        scene.did(scene.dispatch.accept(call, scene.now))
    assert (first.phase, second.phase) == (Phase.STARTED, Phase.QUEUED)
    # Its node may still run it, and so may nobody else.
    scene.did(scene.dispatch.lost(session, scene.now))
    again = scene.join("node2")
    scene.credit(again, 4, 4)
    assert (first.phase, second.phase) == (Phase.SILENT, Phase.QUEUED)
    scene.did(scene.dispatch.cancel(1, scene.now))
    scene.now += 6
    scene.did(scene.dispatch.tick(scene.now))
    assert (first.phase, second.phase) == (Phase.ENDED, Phase.STARTED)
    assert "maxConcurrency" in second.call().attempts[0].why


def failing(scene: Scene, session: Session, call: Live, status: Status, code: str) -> None:
    reason = Reason(code=code, message="no")
    outcome = Outcome(status=status, reason=reason)
    scene.result(session, call.num, call.attempt, outcome, number=call.attempt)


def test_what_fails_is_repeated_as_often_as_it_says_after_growing_pauses() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 9, 9)
    call = live(1, sync=True, now=scene.now, of=spec(retries=3))
    scene.did(scene.dispatch.accept(call, scene.now))
    pauses = []
    kinds = (Status.FAILED, "raised"), (Status.TIMEOUT, "timeout"), (Status.FAILED, "exit_code")
    for count, (status, code) in enumerate(kinds, 1):
        failing(scene, session, call, status, code)
        assert (call.phase, call.status) == (Phase.QUEUED, Status.PENDING)
        pauses.append(call.retry_at - scene.now)
        longest = fates.RETRY_S * 2 ** (count - 1)
        assert longest / 2 <= pauses[-1] <= longest
        scene.did(scene.dispatch.tick(scene.now))
        assert call.phase.value == "queued"
        scene.now = call.retry_at + 0.001
        scene.did(scene.dispatch.tick(scene.now))
        assert call.phase.value == "started"
    failing(scene, session, call, Status.FAILED, "signal")
    assert (call.phase, call.status) == (Phase.ENDED, Status.FAILED)
    told = call.call().attempts
    assert [(one.attempt, one.status) for one in told] == [
        (1, Status.FAILED), (2, Status.TIMEOUT), (3, Status.FAILED), (4, Status.FAILED),
    ]  # fmt: skip
    assert [one.reason.code for one in told if one.reason] == [
        "raised", "timeout", "exit_code", "signal",
    ]  # fmt: skip


def test_what_would_fail_again_is_not_repeated() -> None:
    for status, code in (
        (Status.FAILED, "entry_not_found"),
        (Status.FAILED, "result_too_large"),
        (Status.OOM, "oom"),
    ):
        scene = Scene()
        session = scene.join()
        scene.credit(session, 2, 2)
        call = live(1, sync=True, of=spec(retries=3))
        scene.did(scene.dispatch.accept(call, scene.now))
        failing(scene, session, call, status, code)
        assert (call.phase, call.status) == (Phase.ENDED, status)


def test_an_idempotent_call_that_fails_is_not_repeated_unasked() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 2, 2)
    call = scene.accept(1, idempotent=True)
    failing(scene, session, call, Status.FAILED, "raised")
    assert call.status is Status.FAILED


def test_a_failed_call_that_finds_no_slot_again_ends_as_it_failed() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = live(1, sync=True, now=scene.now, of=spec(retries=3))
    scene.did(scene.dispatch.accept(call, scene.now))
    failing(scene, session, call, Status.FAILED, "raised")
    scene.did(scene.dispatch.lost(session, scene.now))
    scene.now = call.deadline + 1
    scene.did(scene.dispatch.tick(scene.now))
    scene.did(scene.dispatch.tick(scene.now))
    assert (call.status, call.reason) == (Status.FAILED, Reason(code="raised", message="no"))


def test_a_retry_that_could_not_begin_in_time_is_none() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    call = live(1, sync=True, now=scene.now - 599.9, of=spec(retries=3))
    scene.did(scene.dispatch.accept(call, scene.now))
    failing(scene, session, call, Status.FAILED, "raised")
    assert (call.phase, call.status) == (Phase.ENDED, Status.FAILED)
