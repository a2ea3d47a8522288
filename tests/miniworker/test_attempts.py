"""The decisions of a miniworker: by examples, and by hypothesis with all that can cross."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from miniworker import agent
from miniworker.actions import Action, Destroy, Hand, KillAttempt, Tell
from miniworker.attempts import HEARTBEAT_S, KILL_S, RELOAD_S, Attempts
from miniworker.several import Several
from wire import jobs
from wire.errors import ProtocolError
from wire.models import Fault, Reason, Status

CANCEL = Reason(code="cancelled", message="by its caller")


def job(call: int, timeout_ms: int = 1000) -> jobs.Job:
    return jobs.Job(call=call, attempt=1, timeout_ms=timeout_ms)


def ok(serial: int, **more: Any) -> agent.Result:
    return agent.Result(attempt=serial, status="DONE", **more)


def told(actions: list[Action]) -> list[Any]:
    return [action.message for action in actions if isinstance(action, Tell)]


def statuses(actions: list[Action]) -> list[tuple[int, Status | None]]:
    """What was answered: (call, status), None for handed back."""
    answers: list[tuple[int, Status | None]] = []
    for message in told(actions):
        if isinstance(message, jobs.Done):
            answers.append((message.call, message.outcome.status))
        if isinstance(message, jobs.Returned):
            answers.append((message.call, None))
    return answers


def test_the_first_is_handed_over_and_the_next_waits() -> None:
    attempts = Attempts("m1")
    first = attempts.job(job(1), b"p", 0.0)
    assert [type(a) for a in first] == [Hand]
    assert attempts.job(job(2), b"", 0.1) == []
    end = attempts.result(ok(1, sizes=(2, 0, 1)), b"42e", 0.5)
    assert isinstance(end[0], Tell)
    assert end[0].payload == b"42e"
    assert isinstance(end[1], Hand)
    assert end[1].held.job.call == 2
    done = told(end)[0]
    assert done.sizes == (2, 0, 1)
    assert done.outcome.duration_ms == pytest.approx(500)


def test_the_clock_of_a_call_begins_when_it_becomes_head() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1, 1000), b"", 0.0)
    attempts.job(job(2, 1000), b"", 0.0)
    attempts.result(ok(1), b"", 0.9)
    assert not [a for a in attempts.tick(1.8) if isinstance(a, KillAttempt)]
    assert [KillAttempt(2)] == [a for a in attempts.tick(1.9) if isinstance(a, KillAttempt)]
    done = told(attempts.exited(agent.Exit(attempt=2, began=True, sizes=(3, 0)), b"log", 2.0))[
        0
    ]
    assert done.outcome.status is Status.TIMEOUT
    assert done.outcome.reason.code == "timeout"
    assert done.sizes == (0, 3, 0)
    assert done.outcome.waited_ms == pytest.approx(900)


def test_an_agent_that_does_not_kill_in_time_loses_its_sandbox() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1, 1000), b"", 0.0)
    attempts.job(job(2, 1000), b"", 0.0)
    assert KillAttempt(1) in attempts.tick(1.0)
    assert attempts.wake_at() is not None
    assert Destroy() in attempts.tick(1.0 + KILL_S)
    end = attempts.gone(1, False, 2.1)
    assert statuses(end) == [(1, Status.TIMEOUT), (2, None)]
    assert isinstance(told(end)[-1], jobs.Broken)
    assert attempts.gone(1, False, 2.2) == []


def test_a_result_that_crosses_a_kill_wins() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1, 1000), b"", 0.0)
    attempts.tick(1.0)
    assert statuses(attempts.result(ok(1), b"", 1.1)) == [(1, Status.DONE)]


def test_cancel_hands_back_what_waits_and_kills_the_head() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.job(job(2), b"", 0.0)
    assert statuses(attempts.cancel(2, 1, CANCEL, 0.1)) == [(2, None)]
    assert attempts.cancel(1, 2, CANCEL, 0.1) == []
    assert attempts.cancel(1, 1, CANCEL, 0.1) == [KillAttempt(1)]
    assert attempts.cancel(1, 1, CANCEL, 0.2) == []
    end = attempts.exited(agent.Exit(attempt=1, began=True), b"", 0.3)
    assert statuses(end) == [(1, Status.CANCELLED)]
    assert attempts.is_idle


def test_a_recall_hands_back_what_waits_and_leaves_the_head() -> None:
    attempts = Attempts("m1")
    for call in (1, 2, 3):
        attempts.job(job(call), b"", 0.0)
    assert statuses(attempts.recall()) == [(2, None), (3, None)]
    assert attempts.recall() == []
    assert statuses(attempts.result(ok(1), b"", 0.1)) == [(1, Status.DONE)]
    assert attempts.is_idle


def test_a_cancelled_call_that_had_not_begun_is_handed_back() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.cancel(1, 1, CANCEL, 0.1)
    end = attempts.exited(agent.Exit(attempt=1, began=False), b"", 0.3)
    assert statuses(end) == [(1, None)]


@pytest.mark.parametrize(
    ("mark", "oom", "status"),
    [
        (0, False, None),
        (0, True, None),
        (1, False, Status.LOST),
        (1, True, Status.OOM),
        (None, False, Status.LOST),
    ],
)
def test_the_mark_decides_what_a_dying_sandbox_takes_with_it(
    mark: int | None, oom: bool, status: Status | None
) -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.job(job(2), b"", 0.0)
    end = attempts.gone(mark, oom, 0.5)
    assert statuses(end) == [(1, status), (2, None)]
    broken = told(end)[-1]
    assert isinstance(broken, jobs.Broken)
    assert broken.fault is Fault.NONE
    assert statuses(attempts.job(job(3), b"", 0.6)) == [(3, None)]


@pytest.mark.parametrize(
    "answer",
    [
        (agent.Result(attempt=2, status="DONE"), b""),
        (agent.Result(attempt=1, status="DONE"), b"more than announced"),
        (agent.Result(attempt=1, status="DONE", code="raised"), b""),
        (agent.Result(attempt=1, status="FAILED"), b""),
        (agent.Exit(attempt=1, began=True), b""),
    ],
)
def test_what_contradicts_itself_is_a_violation(answer: tuple[Any, bytes]) -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    message, body = answer
    with pytest.raises(ProtocolError) as caught:
        if isinstance(message, agent.Result):
            attempts.result(message, body, 0.1)
        else:
            attempts.exited(message, body, 0.1)
    end = attempts.violated(caught.value.message, 0.1)
    assert end[0] == Destroy()
    assert statuses(end) == [(1, Status.FAILED)]
    assert isinstance(told(end)[-1], jobs.Broken)


def test_nothing_is_handed_over_while_the_agent_loads_again() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1, 1000), b"", 0.0)
    attempts.job(job(2, 1000), b"", 0.0)
    attempts.tick(1.0)
    end = attempts.exited(agent.Exit(attempt=1, began=True, ready=False), b"", 1.1)
    assert statuses(end) == [(1, Status.TIMEOUT)]
    assert not [a for a in end if isinstance(a, Hand)]
    assert attempts.job(job(3), b"", 2.0) == []
    assert attempts.wake_at() == 1.1 + RELOAD_S
    assert attempts.tick(2.0) == []
    assert [type(a) for a in attempts.ready(3.0)] == [Hand]
    # Its time begins here.
    assert not [a for a in attempts.tick(3.9) if isinstance(a, KillAttempt)]
    assert [a for a in attempts.tick(4.0) if isinstance(a, KillAttempt)]


def test_an_agent_that_does_not_load_in_time_loses_its_sandbox() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.result(agent.Result(attempt=1, status="DONE", ready=False), b"", 0.5)
    attempts.job(job(2), b"", 0.6)
    assert attempts.tick(0.5 + RELOAD_S) == [Destroy()]
    assert statuses(attempts.gone(1, False, 4.0)) == [(2, None)]


def test_ready_may_overtake_its_result_and_comes_at_no_other_time() -> None:
    attempts = Attempts("m1")
    with pytest.raises(ProtocolError):
        attempts.ready(0.0)
    attempts.job(job(1), b"", 0.0)
    attempts.job(job(2), b"", 0.0)
    assert attempts.ready(0.1) == []
    with pytest.raises(ProtocolError):
        attempts.ready(0.1)
    end = attempts.result(agent.Result(attempt=1, status="DONE", ready=False), b"", 0.2)
    assert [type(a) for a in end] == [Tell, Hand]


def test_the_limit_of_memory_is_named() -> None:
    attempts = Attempts("m1", 256)
    attempts.job(job(1), b"", 0.0)
    outcome = told(attempts.gone(1, True, 0.5))[0].outcome
    assert (outcome.status, "256 MiB" in outcome.reason.message) == (Status.OOM, True)
    attempts = Attempts("m1", 256)
    attempts.job(job(1), b"", 0.0)
    result = agent.Result(attempt=1, status="OOM", code="oom", message="whatever it says")
    assert told(attempts.result(result, b"", 0.5))[0].outcome.reason == outcome.reason


def test_what_could_not_be_begun_ends_or_gives_the_sandbox_up() -> None:
    missing = Reason(code="command_not_found", message="no such program")
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.job(job(2), b"", 0.0)
    actions = attempts.unstarted(Fault.FUNCTION, missing, 0.1)
    assert statuses(actions) == [(1, Status.FAILED)]
    assert isinstance(actions[-1], Hand)
    full = Reason(code="no_space", message="the disk is full")
    actions = attempts.unstarted(Fault.NODE, full, 0.2)
    # Its worker hands back what it was given, with the reason.
    assert told(actions) == [jobs.Broken(fault=Fault.NODE, reason=full)]
    assert actions[0] == Destroy()
    assert attempts.gone(None, False, 0.3) == []


def test_the_clock_begins_when_it_began() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1, timeout_ms=1000), b"", 0.0)
    attempts.began(5.0)
    assert not any(isinstance(action, KillAttempt) for action in attempts.tick(5.9))
    assert attempts.tick(6.0) == [KillAttempt(1)]


def test_it_beats_only_while_a_call_runs() -> None:
    attempts = Attempts("m1")
    assert attempts.wake_at() is None
    assert attempts.tick(5.0) == []
    attempts.job(job(1, 10_000), b"", 5.0)
    assert attempts.wake_at() == 5.0 + HEARTBEAT_S
    assert told(attempts.tick(6.0)) == [jobs.Heartbeat(call=1, attempt=1)]
    assert attempts.tick(6.5) == []


def test_stop_hands_back_and_says_nothing_more() -> None:
    attempts = Attempts("m1")
    attempts.job(job(1), b"", 0.0)
    attempts.job(job(2), b"", 0.0)
    end = attempts.stop(1.0)
    assert end[0] == Destroy()
    assert statuses(end) == [(1, Status.LOST), (2, None)]
    assert not [m for m in told(end) if isinstance(m, jobs.Broken)]


class AnyOrder(RuleBasedStateMachine):
    """Whatever crosses, an attempt gets exactly one answer and never two run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: Attempts | Several = Attempts("m1")
        self.now = 0.0
        self.calls = 0
        self.answers: dict[int, int] = {}
        self.running: list[int] = []
        self.closed = False

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Hand):
                self.running.append(action.held.serial)
            if isinstance(action, Destroy) and not self.closed:
                self.closed = True
                self.do(self.attempts.gone(None, False, self.now))
        for call, _ in statuses(actions):
            self.answers[call] = self.answers.get(call, 0) + 1

    @rule(timeout_ms=st.integers(1, 3000))
    def job(self, timeout_ms: int) -> None:
        self.calls += 1
        self.do(self.attempts.job(job(self.calls, timeout_ms), b"", self.now))

    @rule(dt=st.floats(0, 2))
    def tick(self, dt: float) -> None:
        self.now += dt
        self.do(self.attempts.tick(self.now))

    @rule(call=st.integers(1, 20))
    def cancel(self, call: int) -> None:
        self.do(self.attempts.cancel(call, 1, CANCEL, self.now))

    @rule()
    def recall(self) -> None:
        self.do(self.attempts.recall())

    @rule(
        serial=st.integers(0, 20),
        began=st.booleans(),
        result=st.booleans(),
        ready=st.sampled_from([True, True, True, False]),
    )
    def answer(self, serial: int, began: bool, result: bool, ready: bool) -> None:
        try:
            if result:
                self.do(self.attempts.result(ok(serial, ready=ready), b"", self.now))
            else:
                exit_ = agent.Exit(attempt=serial, began=began, ready=ready)
                self.do(self.attempts.exited(exit_, b"", self.now))
        except ProtocolError as error:
            if self.calls % 7 == 0:
                self.do(self.attempts.violated(error.message, self.now))

    @rule()
    def ready(self) -> None:
        try:
            self.do(self.attempts.ready(self.now))
        except ProtocolError as error:
            assert "out of turn" in error.message

    @precondition(lambda self: self.calls > 5)
    @rule(mark=st.none() | st.integers(0, 20), oom=st.booleans())
    def die(self, mark: int | None, oom: bool) -> None:
        self.closed = True
        self.do(self.attempts.gone(mark, oom, self.now))

    @invariant()
    def answered_at_most_once(self) -> None:
        assert all(count == 1 for count in self.answers.values())
        assert self.running == sorted(set(self.running))

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if self.attempts.is_idle:
            assert len(self.answers) == self.calls


TestAnyOrder = AnyOrder.TestCase


class Beside(AnyOrder):
    """The same where several run at once: none ever waits."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = Several("m1")

    @invariant()
    def all_run(self) -> None:
        assert self.closed or len(self.running) == self.calls


TestBeside = Beside.TestCase


def test_several_run_at_once_each_with_a_clock_of_its_own() -> None:
    several = Several("m1")
    assert [type(a) for a in several.job(job(1, 1000), b"", 0.0)] == [Hand]
    assert several.head == job(1, 1000)
    assert [
        a.held.serial for a in several.job(job(2, 3000), b"", 0.5) if isinstance(a, Hand)
    ] == [2]
    assert [several.head] == [None]
    assert several.wake_at() == pytest.approx(1.0)
    assert KillAttempt(1) in several.tick(1.0)
    ended = several.exited(agent.Exit(attempt=1, began=True), b"", 1.1)
    assert statuses(ended) == [(1, Status.TIMEOUT)]
    assert statuses(several.cancel(1, 1, CANCEL, 1.2)) == []
    assert several.cancel(2, 1, CANCEL, 1.2) == [KillAttempt(2)]
    # A result that was first wins.
    assert statuses(several.result(ok(2), b"", 1.3)) == [(2, Status.DONE)]
    assert several.is_idle


def test_a_sandbox_takes_all_that_run_in_it_along_and_ends_once() -> None:
    several = Several("m1", memory_mib=64)
    for call in (1, 2, 3):
        several.job(job(call), b"", 0.0)
    actions = several.gone(None, True, 0.5)
    assert statuses(actions) == [(call, Status.OOM) for call in (1, 2, 3)]
    assert [type(m) for m in told(actions)].count(jobs.Broken) == 1
    assert isinstance(told(actions)[-1], jobs.Broken)
    assert not several.gone(None, True, 0.6)
    assert not several.stop(0.6)
    assert statuses(several.job(job(4), b"", 0.7)) == [(4, None)]


def test_one_that_stops_without_calls_ends_its_sandbox() -> None:
    assert Several("m1").stop(0.0) == [Destroy()]
    several = Several("m1")
    several.job(job(1), b"", 0.0)
    actions = several.violated("no output", 0.1)
    assert actions[0] == Destroy()
    assert statuses(actions) == [(1, Status.FAILED)]


def test_what_could_not_be_handed_over_of_several_is_an_end_of_that_one_alone() -> None:
    several = Several("m1")
    several.job(job(1), b"", 0.0)
    several.job(job(2), b"", 0.0)
    reason = Reason(code="x", message="y")
    assert statuses(several.unstarted(Fault.FUNCTION, reason, 0.0)) == [(2, Status.FAILED)]
    assert statuses(several.result(ok(1), b"", 0.1)) == [(1, Status.DONE)]
    with pytest.raises(ProtocolError):
        several.result(ok(1), b"", 0.2)


def test_a_fault_of_the_node_gives_the_sandbox_of_several_up_and_is_the_one_told() -> None:
    several = Several("m1")
    several.job(job(1), b"", 0.0)
    several.job(job(2), b"", 0.0)
    reason = Reason(code="x", message="y")
    actions = several.unstarted(Fault.NODE, reason, 0.1)
    assert actions[0] == Destroy()
    actions += several.gone(None, False, 0.1)
    assert statuses(actions) == [(1, Status.LOST)]
    broken = [message for message in told(actions) if isinstance(message, jobs.Broken)]
    assert broken == [jobs.Broken(fault=Fault.NODE, reason=reason)]
