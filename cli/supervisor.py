"""Decides which process to start, signal or give up: events and ``now`` in, actions out.

Children stand in stages (dbnode, then api, then workers): a stage starts when all of the
one before are ready, and stops when all of the one after are gone. A child that dies is
started again alone, later each time; the others find it again by themselves.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: The first pause before a restart, in seconds; it doubles up to the last one.
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
#: A child that served this long is healthy: its next death is its first again.
HEALTHY_S: Final = 10.0
#: A child not ready by then is killed and counts as an early death.
READY_LIMIT_S: Final = 60.0
#: So many deaths in a row before being ready, and there is no use in going on: at the
#: first start something is wrong that stays wrong, later it may pass (a full disk).
EARLY_DEATHS: Final = 3
LATER_EARLY_DEATHS: Final = 12
#: How long a stage may take to stop before it is killed (a worker lets calls finish, and an
#: engine remove its containers).
STOP_LIMIT_S: Final = 25.0
#: What click exits with for wrong options: trying again changes nothing.
USAGE_ERROR: Final = 2


class State(enum.Enum):
    """Where a child stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Start:
    """Start this child; ``first`` unless it has lived before."""

    child: str
    first: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to this child; ``why`` goes to the log."""

    child: str
    signal: signal.Signals
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Something for the user to see: ready, died, restarting."""

    child: str
    what: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class AllReady:
    """Every child is ready, for the first time."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A child cannot be brought to life; everything stops."""

    child: str
    why: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All children are gone."""


Action = Start | Send | Report | AllReady | GaveUp | Finished


@dataclass(slots=True)
class _Child:
    name: str
    stage: int
    state: State = State.WAITING
    lives: int = 0
    was_ready: bool = False
    #: Deaths in a row: without ever being ready, and soon after.
    early: int = 0
    unwell: int = 0
    since: float = 0.0
    #: The next moment something is due for this child: restart, or kill.
    due: float | None = None


@dataclass(slots=True)
class Supervisor:
    """The state of all children; every method returns what to do now."""

    stages: Sequence[Sequence[str]]
    ready_limit_s: float = READY_LIMIT_S
    stop_limit_s: float = STOP_LIMIT_S
    is_stopping: bool = False
    _was_ready: bool = False
    _is_finished: bool = False
    _children: dict[str, _Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, names in enumerate(self.stages):
            for name in names:
                self._children[name] = _Child(name, number)

    def begin(self, now: float) -> list[Action]:
        """Start the first stage."""
        return self._advance(now)

    def ready(self, name: str, now: float) -> list[Action]:
        """Note that a child serves."""
        child = self._children[name]
        if child.state is not State.STARTING:
            return []
        took_s = now - child.since
        child.state, child.since, child.due = State.READY, now, None
        child.was_ready, child.early = True, 0
        again = "" if child.lives == 1 else " again"
        return [Report(name, f"ready{again} ({took_s:.2f} s)"), *self._advance(now)]

    def exited(self, name: str, status: int, now: float) -> list[Action]:
        """Note that a child is gone; a negative status is the signal that killed it."""
        child = self._children[name]
        before, child.state, child.due = child.state, State.DEAD, None
        if self.is_stopping:
            return self._retreat(now)
        why = _ending(status)
        if before is not State.READY:
            child.early += 1
            if self._is_hopeless(child, status):
                return self._give_up(child, f"{why} before it was ready", now)
        child.unwell = 1 if self._was_well(child, before, now) else child.unwell + 1
        pause_s = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(child.unwell - 1, 16))
        child.due = now + pause_s
        return [Report(name, f"{why}; starting again in {pause_s:.1f} s", warning=True)]

    def stop(self, now: float) -> list[Action]:
        """Stop the last stage first; asked again, kill all at once."""
        if self.is_stopping:
            why = "killed: asked to stop again"
            return [self._kill(child, why) for child in self._living()]
        self.is_stopping = True
        return self._retreat(now)

    def tick(self, now: float) -> list[Action]:
        """Do what is due by now."""
        actions: list[Action] = []
        for child in self._children.values():
            if child.due is None or child.due > now:
                continue
            if child.state is State.DEAD:
                actions.append(self._start(child, now))
            elif child.state is State.STARTING:
                limit_s = f"{self.ready_limit_s:.0f} s"
                actions.append(self._kill(child, f"killed: not ready within {limit_s}"))
            else:
                actions.append(self._kill(child, "killed: it did not stop in time"))
        return actions

    def next_due(self) -> float | None:
        """Return when ``tick`` next has something to do."""
        return min((c.due for c in self._children.values() if c.due is not None), default=None)

    def state_of(self, name: str) -> State:
        """Return where a child stands."""
        return self._children[name].state

    def _advance(self, now: float) -> list[Action]:
        """Start the next stage if all before it are ready."""
        if self.is_stopping:
            return []
        for number in range(len(self.stages)):
            stage = self._stage(number)
            waiting = [child for child in stage if child.state is State.WAITING]
            if waiting:
                return [self._start(child, now) for child in waiting]
            if any(child.state is not State.READY for child in stage):
                return []
        if self._was_ready:
            return []
        self._was_ready = True
        return [AllReady()]

    def _retreat(self, now: float) -> list[Action]:
        """Stop the last stage that still lives."""
        for child in self._children.values():
            if child.state in (State.WAITING, State.DEAD):
                child.state, child.due = State.DEAD, None
        living = list(self._living())
        if not living:
            finished, self._is_finished = self._is_finished, True
            return [] if finished else [Finished()]
        last = max(child.stage for child in living)
        return [
            self._terminate(child, now)
            for child in living
            if child.stage == last and child.state is not State.STOPPING
        ]

    def _give_up(self, child: _Child, why: str, now: float) -> list[Action]:
        self.is_stopping = True
        return [GaveUp(child.name, why), *self._retreat(now)]

    def _start(self, child: _Child, now: float) -> Start:
        child.lives += 1
        child.state, child.since, child.due = State.STARTING, now, now + self.ready_limit_s
        return Start(child.name, first=child.lives == 1)

    def _terminate(self, child: _Child, now: float) -> Send:
        child.state, child.due = State.STOPPING, now + self.stop_limit_s
        return Send(child.name, signal.SIGTERM, "stopping")

    def _kill(self, child: _Child, why: str) -> Send:
        # What survives SIGKILL sits in the kernel: we wait for its end, no more can be done.
        child.due = None
        return Send(child.name, signal.SIGKILL, why)

    def _stage(self, number: int) -> list[_Child]:
        return [self._children[name] for name in self.stages[number]]

    def _living(self) -> Iterable[_Child]:
        gone = (State.WAITING, State.DEAD)
        return (child for child in self._children.values() if child.state not in gone)

    @staticmethod
    def _is_hopeless(child: _Child, status: int) -> bool:
        if child.was_ready:
            return child.early >= LATER_EARLY_DEATHS
        return child.early >= EARLY_DEATHS or status == USAGE_ERROR

    @staticmethod
    def _was_well(child: _Child, before: State, now: float) -> bool:
        return before is State.READY and now - child.since >= HEALTHY_S


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
