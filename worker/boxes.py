"""One sandbox of a node, as the pool and the broker know it: plain state. Pure."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from wire.messages import ColdBecause, Made
from wire.models import Reason, Spec, Status
from worker.actions import Id, Step


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
    #: Of a server: a call was broken off in it, and may run on in there; it gets no other.
    is_spent: bool = False
    #: Whether no call waited for it when it was begun.
    is_ahead: bool = False
    #: What its making took, and what it is worth while it waits (``worker.keep_alive``).
    cost_s: float = 0.0
    worth: float = 0.0
    #: Of one that is, or was, generic: by what it was made.
    stand_in: Spec | None = None
    #: Its key while it is generic; it has that of a revision from its claim on.
    kind: str = ""

    @property
    def is_generic(self) -> bool:
        """Return whether no revision has claimed it."""
        return self.kind != "" and self.key == self.kind

    @property
    def is_claimed(self) -> bool:
        """Return whether it was made as a generic one, and is so no more."""
        return self.kind not in ("", self.key)

    @property
    def is_for_one(self) -> bool:
        """Return whether it serves one call: that of an image has a container of its own."""
        return self.spec is not None and self.spec.runtime.contract == "image"

    @property
    def is_server(self) -> bool:
        """Return whether its calls run at the same time, none behind another."""
        return self.spec is not None and self.spec.runtime.contract == "http"

    @property
    def beside(self) -> int:
        """Return how many more calls a server may be given."""
        if self.spec is None or self.is_spent:
            return 0
        return max(0, self.spec.function.concurrency - len(self.queue))

    @property
    def waits_for_bundle(self) -> bool:
        """Return whether all it lacks is code."""
        return self.up and not self.bundle and not self.is_generic

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

    def loaded(self, load_ms: float, now: float) -> None:
        """Be ready: the making ends with the loading of the code."""
        begin = max((step.end for step in self.steps), default=now)
        loading = max(begin, now - load_ms / 1000)
        self.steps += [Step("sandbox", begin, loading), Step("load", loading, now)]
        self.cost_s = sum(step.end - step.begin for step in self.steps)

    def made(self, begin: float, end: float) -> Made:
        """Return what the making took between an attempt's coming and its START."""
        stages: dict[str, float] = {}
        for step in self.steps:
            took_s = min(step.end, end) - max(step.begin, begin)
            if took_s > 0:
                stages[step.stage] = stages.get(step.stage, 0.0) + took_s * 1000
        runtime = self.stand_in.runtime.name if self.stand_in and self.is_claimed else ""
        return Made(self.because, stages, runtime)
