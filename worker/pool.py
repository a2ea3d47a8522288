"""The sandboxes of a node: which there are, for what, and which to make, keep or stop.

Pure: what happens is told with ``now``; what is to be done comes back as actions. Whether a
sandbox gets an attempt is the broker's business; whether it lives is decided here.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wire.messages import ColdBecause, Made
from wire.models import Reason, Spec, Status
from worker.actions import Action, Id, Kill, Spawn, Specialise, Step, Stop, WantBundle
from worker.partings import Partings

#: A miniworker that was told to leave is killed after this.
STOP_S: Final = 2.0


class Stage(enum.Enum):
    """Where a sandbox stands; it only ever goes forward, but between IDLE and BUSY."""

    #: Its miniworker is being forked, or its bundle is on its way.
    STARTING = "starting"
    #: It has all it needs, and waits for its turn to be made.
    QUEUED = "queued"
    SPECIALISING = "specialising"
    IDLE = "idle"
    #: An attempt has it, running or waiting for START.
    BUSY = "busy"
    STOPPING = "stopping"


MAKING: Final = (Stage.STARTING, Stage.QUEUED, Stage.SPECIALISING)


@dataclass(slots=True)
class Sandbox:
    """One sandbox and its miniworker, which share a name and a life."""

    name: str
    key: str
    since: float
    stage: Stage = Stage.STARTING
    up: bool = False
    spec: Spec | None = None
    bundle: str = ""
    #: Attempts it has: the head, then those ahead.
    queue: deque[Id] = field(default_factory=deque)
    #: How an attempt will have ended once the kill that was ordered has worked.
    verdict: tuple[Id, Status, Reason] | None = None
    #: Whether it was given up before it was ready.
    failed: bool = False
    #: Why it had to be made, and what that took.
    because: ColdBecause = ColdBecause.FIRST
    steps: list[Step] = field(default_factory=list)
    #: How many attempts its miniworker was given, and the head that these were recalled for.
    given: int = 0
    recalled: Id | None = None

    @property
    def is_for_one(self) -> bool:
        """Return whether it serves one call: that of an image has a container of its own."""
        return self.spec is not None and self.spec.function.image is not None

    def enter(self, stage: Stage, now: float) -> None:
        """Go to a stage; its clock begins."""
        self.stage = stage
        self.since = now

    def has_its_turn(self, now: float) -> None:
        """Be made from here on; what it waited for that was no part of the making."""
        if now > self.since:
            forked = max((step.end for step in self.steps), default=self.since)
            self.steps += [
                Step("sandbox", forked, self.since),
                Step("turn", self.since, now),
            ]
        self.enter(Stage.SPECIALISING, now)

    def made(self, begin: float, end: float) -> Made:
        """Return what the making took between an attempt's coming and its START."""
        stages: dict[str, float] = {}
        for step in self.steps:
            took_s = min(step.end, end) - max(step.begin, begin)
            if took_s > 0:
                stages[step.stage] = stages.get(step.stage, 0.0) + took_s * 1000
        return Made(self.because, stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The limits of a pool."""

    #: Sandboxes alive at once, running and idle; over it the idle one unused longest goes.
    max_warm: int
    idle_s: float = 300.0
    #: From UP and bundle to READY.
    start_s: float = 60.0
    #: Made at the same time; an engine that has to start many at once is slow with each.
    starts: int = 4


class Pool:
    """All sandboxes by name, and the idle ones of each key in the order of their last use."""

    def __init__(self, settings: PoolSettings) -> None:
        self.sandboxes: dict[str, Sandbox] = {}
        self._settings = settings
        self._idle: dict[str, deque[Sandbox]] = {}
        self._made = 0
        self._partings = Partings()
        #: How many were stopped to make room.
        self.evicted = 0

    def __repr__(self) -> str:
        return f"<Pool of {len(self.sandboxes)} sandboxes, {self.counts()}>"

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(list(self.sandboxes.values()))

    def counts(self) -> dict[str, int]:
        """Return the number of idle sandboxes by key."""
        return {key: len(idle) for key, idle in self._idle.items() if idle}

    def making(self, key: str) -> int:
        """Return how many sandboxes of a key are on their way."""
        return sum(
            1 for box in self.sandboxes.values() if box.key == key and box.stage in MAKING
        )

    def alive(self) -> int:
        """Return how many sandboxes there are that nobody told to leave."""
        return sum(1 for box in self.sandboxes.values() if box.stage is not Stage.STOPPING)

    def make(self, key: str, now: float) -> list[Action]:
        """Begin a sandbox of this key; the fork and the bundle go on at the same time."""
        actions: list[Action] = []
        because = self._because(key)
        if self.alive() >= self._settings.max_warm:
            actions += self._evict(now)
        self._made += 1
        box = Sandbox(f"m{self._made}", key, now, because=because)
        self.sandboxes[box.name] = box
        return [*actions, WantBundle(box.name, key), Spawn(box.name)]

    def take(self, key: str, now: float) -> Sandbox | None:
        """Return an idle sandbox of this key, the one used last; it is BUSY from here on."""
        idle = self._idle.get(key)
        if not idle:
            return None
        box = idle.pop()
        if not idle:
            del self._idle[key]
        box.enter(Stage.BUSY, now)
        return box

    def rest(self, box: Sandbox, now: float) -> list[Action]:
        """Let a sandbox that nobody needs wait, or leave if there are too many."""
        box.enter(Stage.IDLE, now)
        self._idle.setdefault(box.key, deque()).append(box)
        return self._evict(now) if self.alive() > self._settings.max_warm else []

    def up(self, name: str, now: float) -> list[Action]:
        """The miniworker was forked and listens."""
        box = self.sandboxes.get(name)
        if box is None:
            return []
        box.up = True
        if box.stage is Stage.STOPPING:
            return [Stop(name)]
        return self._specialise(box, now)

    def bundle(
        self, name: str, spec: Spec, bundle: str, now: float, steps: tuple[Step, ...] = ()
    ) -> list[Action]:
        """The code of a sandbox is there; ``steps`` are what that took."""
        box = self.sandboxes.get(name)
        if box is None or box.stage is not Stage.STARTING:
            return []
        box.spec, box.bundle = spec, bundle
        # Forking goes on meanwhile: only what is left of it counts for the sandbox.
        box.steps += [*steps, Step("sandbox", now, now)]
        return self._specialise(box, now)

    def made(self, box: Sandbox, load_ms: float, now: float) -> None:
        """A sandbox is ready: its making ends with the loading of the code."""
        self._partings.ready(box.key)
        begin = max((step.end for step in box.steps), default=now)
        loading = max(begin, now - load_ms / 1000)
        box.steps += [Step("sandbox", begin, loading), Step("load", loading, now)]

    def queued(self) -> list[Sandbox]:
        """Return those that wait for their turn to be made, first come first."""
        return [box for box in self if box.stage is Stage.QUEUED]

    def begin(self, now: float) -> list[Action]:
        """Have as many made of those that wait for it as may be at once."""
        made = sum(1 for box in self if box.stage is Stage.SPECIALISING)
        actions: list[Action] = []
        for box in self.queued()[: max(0, self._settings.starts - made)]:
            if box.spec is not None:
                box.has_its_turn(now)
                actions.append(Specialise(box.name, box.spec, box.bundle))
        return actions

    def stop(
        self, box: Sandbox, now: float, because: ColdBecause | None = None
    ) -> list[Action]:
        """Have a sandbox leave that no attempt has; ``because`` if others will ask why."""
        if box.stage is Stage.STOPPING:
            return []
        if because is not None:
            self._partings.left(box.key, because)
        self._unrest(box)
        box.enter(Stage.STOPPING, now)
        return [Stop(box.name)] if box.up else []

    def doom(self, box: Sandbox, now: float) -> None:
        """Give a sandbox up: it gets nothing more, and its end is awaited."""
        if box.stage in (Stage.IDLE, Stage.BUSY):
            self._partings.left(box.key, ColdBecause.DIED)
        self._unrest(box)
        box.failed = box.failed or box.stage in MAKING
        box.enter(Stage.STOPPING, now)

    def gone(self, name: str) -> Sandbox | None:
        """The miniworker has ended: forget it and return what it was."""
        box = self.sandboxes.pop(name, None)
        if box is not None:
            if box.stage in (Stage.IDLE, Stage.BUSY):
                self._partings.left(box.key, ColdBecause.DIED)
            self._unrest(box)
        return box

    def tick(self, now: float) -> list[Action]:
        """Stop what idled too long; kill what is deaf to STOP or does not get ready."""
        actions: list[Action] = []
        for box in self:
            waited = now - box.since
            if box.stage is Stage.IDLE and waited >= self._idle_s(box):
                actions += self.stop(box, now, ColdBecause.IDLE)
            elif box.stage is Stage.STOPPING and waited >= STOP_S:
                actions += self._kill(box, now, "it did not leave when asked")
            elif self._overdue(box) and waited >= self._settings.start_s:
                actions += self._kill(box, now, "it did not get ready in time")
        return actions

    def _overdue(self, box: Sandbox) -> bool:
        # Fetching and installing a bundle have limits of their own, and so have those that
        # are made before it.
        waits = box.stage is Stage.QUEUED or (box.up and not box.bundle)
        return box.stage in MAKING and not waits

    def _kill(self, box: Sandbox, now: float, why: str) -> list[Action]:
        self.doom(box, now)
        return [Kill(box.name, why)]

    def _idle_s(self, box: Sandbox) -> float:
        own = box.spec.function.idle if box.spec else None
        return self._settings.idle_s if own is None else own

    def _specialise(self, box: Sandbox, now: float) -> list[Action]:
        if not (box.up and box.spec and box.stage is Stage.STARTING):
            return []
        box.enter(Stage.QUEUED, now)
        return self.begin(now)

    def _evict(self, now: float) -> list[Action]:
        """Stop the sandbox that has been idle longest, of whatever key."""
        if not self._idle:
            return []
        oldest = min((idle[0] for idle in self._idle.values()), key=lambda box: box.since)
        self.evicted += 1
        return self.stop(oldest, now, ColdBecause.EVICTED)

    def _because(self, key: str) -> ColdBecause:
        """Return why a call of this key finds no idle sandbox."""
        for box in self.sandboxes.values():
            if box.key == key and box.stage is not Stage.STOPPING:
                return ColdBecause.BUSY
        return self._partings.because(key)

    def _unrest(self, box: Sandbox) -> None:
        idle = self._idle.get(box.key)
        if box.stage is Stage.IDLE and idle is not None:
            idle.remove(box)
            if not idle:
                del self._idle[box.key]
