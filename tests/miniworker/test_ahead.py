"""What is decided where an agent has several calls: by hypothesis with all that can cross."""

from __future__ import annotations

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from miniworker import agent
from miniworker.actions import Action, Destroy, Hand, KillAttempt, Revoke, Tell
from miniworker.ahead import MOST_BEHIND, MOST_BYTES, Ahead
from tests.miniworker.test_attempts import CANCEL, job, ok, statuses
from wire.models import Status


def handed(actions: list[Action]) -> list[tuple[int, bool]]:
    return [(a.held.serial, a.ahead) for a in actions if isinstance(a, Hand)]


def test_what_comes_goes_on_at_once_as_much_as_the_connection_holds() -> None:
    ahead = Ahead("m1")
    assert handed(ahead.job(job(1), b"", 0.0)) == [(1, False)]
    for serial in range(2, MOST_BEHIND + 2):
        assert handed(ahead.job(job(serial), b"", 0.0)) == [(serial, True)]
    assert handed(ahead.job(job(50), b"", 0.0)) == []
    first = ahead.result(ok(1), b"", 0.5)
    assert statuses(first) == [(1, Status.DONE)]
    assert handed(first) == [(MOST_BEHIND + 2, True)]
    large = Ahead("m1")
    large.job(job(1), b"", 0.0)
    assert handed(large.job(job(2), b"x" * (MOST_BYTES + 1), 0.0)) == []
    assert handed(large.result(ok(1), b"", 0.1)) == [(2, False)]


def test_a_recall_takes_back_what_the_agent_has_not_begun() -> None:
    ahead = Ahead("m1")
    for call in (1, 2, 3):
        ahead.job(job(call), b"", 0.0)
    assert ahead.recall() == [Revoke(3)]
    # The result of the first is on its way, and the second runs.
    assert statuses(ahead.revoked(2, 0.1)) == [(3, None)]
    assert statuses(ahead.result(ok(1), b"", 0.1)) == [(1, Status.DONE)]
    assert statuses(ahead.result(ok(2), b"", 0.2)) == [(2, Status.DONE)]
    assert ahead.is_idle


def test_one_that_runs_behind_a_head_by_the_books_is_cancelled_as_a_head() -> None:
    ahead = Ahead("m1")
    for call in (1, 2):
        ahead.job(job(call), b"", 0.0)
    assert ahead.cancel(2, 1, CANCEL, 0.1) == [Revoke(2)]
    assert ahead.revoked(2, 0.1) == []
    assert KillAttempt(2) in ahead.result(ok(1), b"", 0.2)
    end = ahead.exited(agent.Exit(attempt=2, began=True), b"", 0.3)
    assert statuses(end) == [(2, Status.CANCELLED)]


def test_a_sandbox_that_dies_takes_along_what_it_had_begun_and_no_more() -> None:
    ahead = Ahead("m1")
    for call in (1, 2, 3):
        ahead.job(job(call), b"", float(call))
    assert statuses(ahead.gone(2, False, 5.0)) == [
        (2, Status.LOST),
        (3, None),
        (1, Status.LOST),
    ]


class AnAgent(RuleBasedStateMachine):
    """A faithful agent: what it says and what it is told may cross in any way.

    Whatever does, a call has one answer, and one that was handed back never begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead = Ahead("m1")
        self.now = 0.0
        self.calls: dict[int, int] = {}
        self.answers: dict[int, Status | None] = {}
        #: On its way to the agent; what it said on both connections; kills.
        self.pipe: deque[int] = deque()
        self.data: deque[agent.Result | agent.Exit] = deque()
        self.control: deque[agent.Ready | agent.Exit] = deque()
        self.doomed: int | None = None
        self.begun = self.revoked = self.running = self.looking = 0
        self.ran: set[int] = set()
        self.loads = self.dead = False

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Hand(held):
                    self.pipe.append(held.serial)
                    if not action.ahead:
                        self.do(self.ahead.began(self.now))
                case Revoke(serial):
                    self.revoked = serial
                    self.do(self.ahead.revoked(self.begun, self.now))
                case KillAttempt(serial):
                    self.doomed = serial
                case Destroy():
                    self.end()
                case Tell():
                    self.answered(action)

    def answered(self, action: Tell) -> None:
        for call, status in statuses([action]):
            assert call not in self.answers
            self.answers[call] = status

    def end(self) -> None:
        if not self.dead:
            self.dead = True
            self.do(self.ahead.gone(self.begun, False, self.now))

    @rule(timeout_ms=st.integers(1, 3000))
    def job(self, timeout_ms: int) -> None:
        call = len(self.calls) + 1
        self.calls[call] = call
        self.do(self.ahead.job(job(call, timeout_ms), b"", self.now))

    @rule(dt=st.floats(0, 0.4))
    def tick(self, dt: float) -> None:
        self.now += dt
        self.do(self.ahead.tick(self.now))

    @rule(back=st.integers(0, 5))
    def cancel(self, back: int) -> None:
        self.do(self.ahead.cancel(len(self.calls) - back, 1, CANCEL, self.now))

    @rule()
    def recall(self) -> None:
        self.do(self.ahead.recall())

    @precondition(lambda self: self.pipe and not (self.dead or self.loads or self.running))
    @rule()
    def begin(self) -> None:
        """The agent looks, writes its mark, and looks again in a moment."""
        if not self.looking:
            serial = self.pipe.popleft()
            if serial > self.revoked:
                self.looking = self.begun = serial
            return
        self.look()

    def look(self) -> None:
        serial, self.looking = self.looking, 0
        if serial <= self.revoked:
            self.data.append(agent.Exit(attempt=serial, began=False))
            return
        assert serial not in self.ran
        self.ran.add(serial)
        self.running = serial

    @precondition(lambda self: self.looking)
    @rule()
    def look_again(self) -> None:
        self.look()

    @precondition(lambda self: self.running and not self.dead)
    @rule(ready=st.sampled_from([True, True, False]))
    def finish(self, ready: bool) -> None:
        self.data.append(ok(self.running, ready=ready))
        self.running, self.loads = 0, not ready

    @precondition(lambda self: self.loads and not self.dead)
    @rule()
    def load(self) -> None:
        self.loads = False
        self.control.append(agent.Ready())

    @precondition(lambda self: self.doomed is not None and not self.looking and not self.dead)
    @rule()
    def pursue(self) -> None:
        serial, self.doomed = self.doomed or 0, None
        if self.running == serial:
            self.running, self.loads = 0, True
            self.control.append(agent.Exit(attempt=serial, began=True, ready=False))
        elif self.begun < serial:
            if serial in self.pipe:
                self.pipe.remove(serial)
            self.control.append(agent.Exit(attempt=serial, began=False))

    @precondition(lambda self: self.data and not self.dead)
    @rule()
    def hear_data(self) -> None:
        said = self.data.popleft()
        if isinstance(said, agent.Result):
            self.do(self.ahead.result(said, b"", self.now))
        else:
            self.do(self.ahead.exited(said, b"", self.now))

    @precondition(lambda self: self.control and not self.dead)
    @rule()
    def hear_control(self) -> None:
        said = self.control.popleft()
        if isinstance(said, agent.Ready):
            self.do(self.ahead.ready(self.now))
        else:
            self.do(self.ahead.exited(said, b"", self.now))

    @precondition(lambda self: len(self.calls) > 8)
    @rule()
    def die(self) -> None:
        # What it said before is read first.
        while self.data and not self.dead:
            self.hear_data()
        self.end()

    @invariant()
    def what_was_handed_back_never_runs(self) -> None:
        # Serials are those of the calls: all were taken.
        assert not {call for call, status in self.answers.items() if status is None} & self.ran

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if self.ahead.is_idle:
            assert len(self.answers) == len(self.calls)

    def comes_on(self) -> bool:
        """Do one thing that is to be done; return whether there was one."""
        if self.looking:
            self.look()
        elif self.doomed is not None:
            self.pursue()
        elif self.loads:
            self.load()
        elif self.control:
            self.hear_control()
        elif self.data:
            self.hear_data()
        elif self.running:
            self.finish(True)
        elif self.pipe:
            self.begin()
        else:
            return False
        return True

    def teardown(self) -> None:
        """Let it come to rest: all is answered."""
        while not self.dead and self.comes_on():
            pass
        assert self.ahead.is_idle
        assert len(self.answers) == len(self.calls)
        self.what_was_handed_back_never_runs()


TestAnAgent = AnAgent.TestCase
