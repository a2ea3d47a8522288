"""The supervisor's decisions, by tables and by a state machine."""

from __future__ import annotations

import signal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cli.supervisor import (
    EARLY_DEATHS,
    FIRST_PAUSE_S,
    LAST_PAUSE_S,
    LATER_EARLY_DEATHS,
    Action,
    AllReady,
    Finished,
    GaveUp,
    Report,
    Send,
    Start,
    State,
    Supervisor,
)

STAGES = (("db",), ("api",), ("w1", "w2"))
DECIDED = (Start, Send, AllReady, GaveUp, Finished)


def made(actions: list[Action]) -> list[Action]:
    """Return the actions without what is only said."""
    return [action for action in actions if isinstance(action, DECIDED)]


def up() -> Supervisor:
    supervisor = Supervisor(STAGES)
    supervisor.begin(0)
    for name in ("db", "api", "w1", "w2"):
        supervisor.ready(name, 1)
    return supervisor


def sent(actions: list[Action], number: signal.Signals) -> list[str]:
    return [a.child for a in actions if isinstance(a, Send) and a.signal is number]


def test_a_stage_starts_when_all_of_the_one_before_are_ready() -> None:
    supervisor = Supervisor(STAGES)
    assert made(supervisor.begin(0)) == [Start("db", first=True)]
    assert made(supervisor.ready("db", 1)) == [Start("api", first=True)]
    both: list[Action] = [Start("w1", first=True), Start("w2", first=True)]
    assert made(supervisor.ready("api", 2)) == both
    assert made(supervisor.ready("w2", 3)) == []
    assert made(supervisor.ready("w1", 4)) == [AllReady()]


def test_the_last_stage_stops_first_and_each_waits_for_the_one_after() -> None:
    supervisor = up()
    assert sent(supervisor.stop(2), signal.SIGTERM) == ["w1", "w2"]
    assert made(supervisor.exited("w2", 0, 3)) == []
    assert sent(supervisor.exited("w1", 0, 3), signal.SIGTERM) == ["api"]
    assert sent(supervisor.exited("api", 0, 4), signal.SIGTERM) == ["db"]
    assert made(supervisor.exited("db", 0, 5)) == [Finished()]
    assert supervisor.next_due() is None


def test_what_does_not_stop_in_time_is_killed() -> None:
    supervisor = up()
    supervisor.stop(2)
    due = supervisor.next_due()
    assert due == 2 + supervisor.stop_limit_s
    assert made(supervisor.tick(due - 0.1)) == []
    assert sent(supervisor.tick(due), signal.SIGKILL) == ["w1", "w2"]
    assert supervisor.tick(due + 1) == []


def test_asked_again_all_are_killed_at_once() -> None:
    supervisor = up()
    supervisor.stop(2)
    assert sent(supervisor.stop(2.1), signal.SIGKILL) == ["db", "api", "w1", "w2"]
    for name in ("db", "api", "w1"):
        assert Finished() not in supervisor.exited(name, -9, 3)
    assert made(supervisor.exited("w2", -9, 3)) == [Finished()]


def test_a_dead_child_starts_again_alone_and_is_not_the_first_any_more() -> None:
    supervisor = up()
    said = supervisor.exited("db", -9, 5)
    assert said == [Report("db", "killed by SIGKILL; starting again in 0.1 s", warning=True)]
    assert supervisor.next_due() == pytest.approx(5 + FIRST_PAUSE_S)
    assert supervisor.tick(5.2) == [Start("db", first=False)]
    assert supervisor.ready("db", 6) == [Report("db", "ready again (0.80 s)")]
    assert supervisor.state_of("api") is State.READY


def test_pauses_grow_while_it_keeps_dying_and_shrink_once_it_was_well() -> None:
    supervisor, now, pauses = up(), 1.0, []
    for _ in range(9):
        supervisor.exited("api", 1, now)
        due = supervisor.next_due() or 0
        pauses.append(round(due - now, 3))
        supervisor.tick(due)
        supervisor.ready("api", due)
        now = due + 0.5
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LAST_PAUSE_S, LAST_PAUSE_S, LAST_PAUSE_S]
    supervisor.exited("api", 1, now + 100)
    assert supervisor.next_due() == pytest.approx(now + 100 + FIRST_PAUSE_S)


@pytest.mark.parametrize(("status", "deaths"), [(1, EARLY_DEATHS), (2, 1), (-11, EARLY_DEATHS)])
def test_a_child_that_never_gets_ready_is_given_up(status: int, deaths: int) -> None:
    supervisor = Supervisor(STAGES)
    supervisor.begin(0)
    supervisor.ready("db", 1)
    for death in range(1, deaths + 1):
        actions = supervisor.exited("api", status, float(death * 10))
        assert any(isinstance(a, GaveUp) for a in actions) == (death == deaths)
        if death < deaths:
            supervisor.tick(death * 10 + 5)
    assert sent(actions, signal.SIGTERM) == ["db"]
    assert made(supervisor.exited("db", 0, 50)) == [Finished()]


def test_a_child_that_once_was_ready_gets_more_patience() -> None:
    supervisor, now = up(), 10.0
    supervisor.exited("db", -9, now)
    for _ in range(LATER_EARLY_DEATHS - 1):
        now = supervisor.next_due() or now
        assert supervisor.tick(now) == [Start("db", first=False)]
        assert not supervisor.is_stopping
        supervisor.exited("db", 1, now)
    now = supervisor.next_due() or now
    supervisor.tick(now)
    assert isinstance(supervisor.exited("db", 1, now)[0], GaveUp)


def test_a_child_not_ready_in_time_is_killed_and_counts_as_an_early_death() -> None:
    supervisor = Supervisor((("slow",),))
    supervisor.begin(0)
    for _ in range(EARLY_DEATHS):
        now = supervisor.next_due() or 0
        assert sent(supervisor.tick(now), signal.SIGKILL) == ["slow"]
        actions = supervisor.exited("slow", -9, now)
        supervisor.tick(supervisor.next_due() or now)
    assert made(actions) == [
        GaveUp("slow", "killed by SIGKILL before it was ready"),
        Finished(),
    ]


def test_stopping_before_anything_began_is_the_end() -> None:
    supervisor = Supervisor(STAGES)
    assert supervisor.stop(0) == [Finished()]
    assert supervisor.ready("db", 1) == []


def test_a_child_waiting_for_its_restart_is_not_started_while_stopping() -> None:
    supervisor = up()
    supervisor.exited("w1", 1, 2)
    supervisor.stop(2)
    actions = supervisor.tick(60 + 2)
    assert sent(actions, signal.SIGKILL) == ["w2"]
    assert len(actions) == 1


class Machine(RuleBasedStateMachine):
    """Children live, die and are told things in any order; the world obeys the actions."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.supervisor = Supervisor(STAGES)
        self.living: dict[str, bool] = {}
        self.killed: set[str] = set()
        self.finished = 0
        self.asked = False
        self.obey(self.supervisor.begin(self.now))

    def obey(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                assert action.child not in self.living, "started twice"
                assert not self.supervisor.is_stopping
                self.living[action.child] = False
            elif isinstance(action, Send):
                assert action.child in self.living, "a signal to the dead"
                self.killed.add(action.child)
            elif isinstance(action, Finished):
                self.finished += 1

    @rule(seconds=st.sampled_from([0.05, 1.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.obey(self.supervisor.tick(self.now))

    @precondition(lambda self: self.living)
    @rule(data=st.data(), status=st.sampled_from([0, 1, 2, -9]))
    def one_ends(self, data: st.DataObject, status: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.living)))
        del self.living[name]
        self.killed.discard(name)
        self.obey(self.supervisor.exited(name, status, self.now))

    @precondition(lambda self: not all(self.living.values()))
    @rule(data=st.data())
    def one_is_ready(self, data: st.DataObject) -> None:
        waiting = sorted(name for name, ready in self.living.items() if not ready)
        name = data.draw(st.sampled_from(waiting))
        self.living[name] = True
        self.obey(self.supervisor.ready(name, self.now))

    @rule()
    def user_stops(self) -> None:
        self.asked = True
        self.obey(self.supervisor.stop(self.now))

    @invariant()
    def finished_once_and_only_when_all_are_gone(self) -> None:
        assert self.finished == int(self.supervisor.is_stopping and not self.living)

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        if self.supervisor.is_stopping:
            pending = self.supervisor.next_due() is not None
            assert pending or not self.living or self.killed
        elif not all(self.living.values()) or len(self.living) < 4:
            assert self.supervisor.next_due() is not None or self.killed

    def teardown(self) -> None:
        self.obey(self.supervisor.stop(self.now))
        while self.living:
            assert self.killed & set(self.living), "stopping, and nobody was told"
            name = min(self.killed & set(self.living))
            del self.living[name]
            self.obey(self.supervisor.exited(name, 0, self.now))
        assert self.finished == 1


TestMachine = Machine.TestCase
