"""The sandboxes of a node: which there are, for what, and which to make, keep or stop.

Pure: what happens is told with ``now``; what is to be done comes back as actions. Whether a
sandbox gets an attempt is the broker's business; whether it lives is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wire.messages import ColdBecause
from wire.models import Spec
from worker import turns
from worker.actions import (
    Action,
    DropBundle,
    Kill,
    Spawn,
    Specialise,
    Step,
    Stop,
    WantBundle,
)
from worker.boxes import MAKING, Sandbox, Stage
from worker.keep_alive import KeepAlive, Worths
from worker.partings import Partings
from worker.preload import Preload, Wish
from worker.resting import Resting

#: A miniworker that was told to leave is killed after this.
STOP_S: Final = 2.0
#: An idle sandbox of a revision that new calls no longer get leaves after this: calls that
#: were accepted before may still be on their way.
SUPERSEDED_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The limits of a pool."""

    #: Sandboxes alive at once, running and idle; over it an idle one goes.
    max_warm: int
    idle_s: float = 300.0
    #: Which idle one leaves, and whether before there are too many.
    keep_alive: KeepAlive = "idle"
    #: From UP and bundle to READY.
    start_s: float = 60.0
    #: Made at the same time; an engine that has to start many at once is slow with each.
    starts: int = 4


class Pool:
    """All sandboxes by name, and the idle ones of each key in the order of their last use."""

    def __init__(self, settings: PoolSettings, preload: Preload | None = None) -> None:
        self.preload = Preload() if preload is None else preload
        self.sandboxes: dict[str, Sandbox] = {}
        self._settings = settings
        self.resting = Resting()
        #: All that attempts have, and maybe some that none has any more.
        self._busy: dict[str, Sandbox] = {}
        self._made = 0
        self._partings = Partings()
        self._worths = Worths(settings.keep_alive)
        #: How many were stopped to make room.
        self.evicted = 0

    def __repr__(self) -> str:
        return f"<Pool of {len(self.sandboxes)} sandboxes, {self.counts()}>"

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(list(self.sandboxes.values()))

    def occupy(self, box: Sandbox, now: float) -> None:
        """Let attempts have a sandbox."""
        box.enter(Stage.BUSY, now)
        self._busy[box.name] = box

    def busy(self) -> list[Sandbox]:
        """Return those that attempts have, whatever else there is."""
        known = self.sandboxes
        for name, box in list(self._busy.items()):
            if box.stage is not Stage.BUSY or name not in known:
                del self._busy[name]
        return list(self._busy.values())

    def counts(self) -> dict[str, int]:
        """Return the number of idle sandboxes by revision key."""
        return self.resting.counts()

    def making(self, key: str) -> int:
        """Return how many sandboxes of a key are on their way."""
        return sum(
            1 for box in self.sandboxes.values() if box.key == key and box.stage in MAKING
        )

    def alive(self) -> int:
        """Return how many sandboxes there are that nobody told to leave."""
        return sum(1 for box in self.sandboxes.values() if box.stage is not Stage.STOPPING)

    @property
    def has_generics(self) -> bool:
        """Return whether there are as many generic ones, of all kinds, as may be."""
        # The other half is for functions: else none would stay warm after its call.
        most = max(1, self._settings.max_warm // 2)
        living = self.sandboxes.values()
        return sum(b.is_generic and b.stage is not Stage.STOPPING for b in living) >= most

    def alive_of(self, key: str) -> int:
        """Return how many of a key there are that nobody told to leave."""
        return sum(1 for box in self._all_of(key))

    def make(self, key: str, now: float, *, anew: bool = False) -> list[Action]:
        """Get a sandbox of this key: a generic one that waits, or else (or ``anew``) a new one.

        Of a new one the fork and the bundle go on at the same time.
        """
        because = self._because(key)
        if not anew and (box := self._claim(key, now)):
            box.because = because
            return [WantBundle(box.name, key)]
        actions = self._evict(now) if self.alive() >= self._settings.max_warm else []
        box = self._new(key, now)
        box.because = because
        return [*actions, WantBundle(box.name, key), Spawn(box.name)]

    def make_ahead(self, wish: Wish, now: float) -> list[Action]:
        """Begin a sandbox that no call waits for."""
        box = self._new(wish.key, now)
        box.is_ahead = True
        if wish.stand_in is None:
            return [WantBundle(box.name, wish.key), Spawn(box.name)]
        box.kind = wish.key
        box.spec = box.stand_in = wish.stand_in
        return [Spawn(box.name)]

    def makes_for_calls(self) -> bool:
        """Return whether a sandbox is being made that a call may wait for."""
        return any(
            box.stage in MAKING and not box.is_ahead and not box.waits_for_bundle
            for box in self.sandboxes.values()
        )

    def is_kept(self, box: Sandbox) -> bool:
        """Return whether there would be too few of its key without this one."""
        least = self.preload.least(box.key)
        return least > 0 and self.alive_of(box.key) <= least

    def room(self, now: float) -> list[Action] | None:
        """Make room for one that should wait; None if all there are should stay too."""
        if self.alive() < self._settings.max_warm:
            return []
        free = [box for box in self.resting.oldest() if not self.is_kept(box)]
        return self._leave(min(free, key=lambda b: b.worth), now) if free else None

    def take(self, key: str, now: float) -> Sandbox | None:
        """Return an idle sandbox of this key, the one used last; it is BUSY from here on."""
        box = self.resting.take(key)
        if box is not None:
            self.occupy(box, now)
        return box

    def rest(self, box: Sandbox, now: float) -> list[Action]:
        """Let a sandbox that nobody needs wait, or leave if there are too many."""
        box.enter(Stage.IDLE, now)
        box.worth = self._worths.of(box, now)
        self.resting.add(box)
        most = box.spec.function.max_warm if box.spec and not box.is_generic else None
        if most is not None and self.resting.of(box.key) > most:
            return self._leave(self.resting.first(box.key), now)
        limit = self._settings.max_warm
        is_over = len(self.sandboxes) > limit and self.alive() > limit
        return self._evict(now) if is_over else []

    def unclaim(self, box: Sandbox, now: float) -> list[Action]:
        """Let a claimed sandbox wait again: no code came into it."""
        box.key, box.spec = box.kind, box.stand_in
        box.steps = []
        return [DropBundle(box.name), *self.rest(box, now)]

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
        if box.is_generic:
            return
        self._partings.ready(box.key)
        box.loaded(load_ms, now)

    def queued(self) -> list[Sandbox]:
        """Return those that wait for their turn to be made: those for calls come first."""
        return turns.queued(self.sandboxes.values())

    def begin(self, now: float) -> list[Action]:
        """Have as many made of those that wait for it as may be at once."""
        return turns.begin(self.sandboxes.values(), self._settings.starts, now)

    def stop(
        self, box: Sandbox, now: float, because: ColdBecause | None = None
    ) -> list[Action]:
        """Have a sandbox leave that no attempt has; ``because`` if others will ask why."""
        if box.stage is Stage.STOPPING:
            return []
        if because is not None and not box.is_generic:
            self._partings.left(box.key, because)
        self.resting.remove(box)
        box.enter(Stage.STOPPING, now)
        return [Stop(box.name)] if box.up else []

    def doom(self, box: Sandbox, now: float) -> None:
        """Give a sandbox up: it gets nothing more, and its end is awaited."""
        if box.stage in (Stage.IDLE, Stage.BUSY):
            self._has_died(box)
        self.resting.remove(box)
        is_waiting = box.is_generic and box.stage is Stage.IDLE
        box.failed = box.failed or box.stage in MAKING or is_waiting
        box.enter(Stage.STOPPING, now)

    def gone(self, name: str) -> Sandbox | None:
        """The miniworker has ended: forget it and return what it was."""
        box = self.sandboxes.pop(name, None)
        if box is not None:
            if box.stage in (Stage.IDLE, Stage.BUSY):
                self._has_died(box)
            self.resting.remove(box)
            if not self.alive_of(box.key):
                self._worths.forget(box.key)
        return box

    def tick(self, now: float) -> list[Action]:
        """Stop what idled too long; kill what is deaf to STOP or does not get ready."""
        actions: list[Action] = []
        for box in self:
            waited = now - box.since
            if box.stage is Stage.IDLE and self._has_idled(box, waited):
                actions += self.stop(box, now, ColdBecause.IDLE)
            elif box.stage is Stage.STOPPING and waited >= STOP_S:
                actions += self._kill(box, now, "it did not leave when asked")
            elif self._overdue(box) and waited >= self._settings.start_s:
                actions += self._kill(box, now, "it did not get ready in time")
        return actions

    def _overdue(self, box: Sandbox) -> bool:
        # Fetching and installing a bundle have limits of their own, and so have those that
        # are made before it.
        waits = box.stage is Stage.QUEUED or box.waits_for_bundle
        return box.stage in MAKING and not waits

    def _kill(self, box: Sandbox, now: float, why: str) -> list[Action]:
        self.doom(box, now)
        return [Kill(box.name, why)]

    def _has_idled(self, box: Sandbox, waited: float) -> bool:
        if not self.preload.is_current(box.key):
            return waited >= min(self._idle_s(box), SUPERSEDED_S)
        return waited >= self._idle_s(box) and not self.is_kept(box)

    def _idle_s(self, box: Sandbox) -> float:
        own = box.spec.function.idle if box.spec else None
        if own is None:
            return self._settings.idle_s if self._worths.has_time else math.inf
        return own

    def _specialise(self, box: Sandbox, now: float) -> list[Action]:
        if not (box.up and box.spec and box.stage is Stage.STARTING):
            return []
        if box.is_claimed:
            # Nothing has to be started for it, so it takes no turn.
            box.enter(Stage.SPECIALISING, now)
            return [Specialise(box.name, box.spec, box.bundle)]
        box.enter(Stage.QUEUED, now)
        return self.begin(now)

    def _new(self, key: str, now: float) -> Sandbox:
        self._made += 1
        box = Sandbox(f"m{self._made}", key, now)
        self.sandboxes[box.name] = box
        return box

    def _claim(self, key: str, now: float) -> Sandbox | None:
        """Give a waiting generic sandbox this key, for good unless no code comes."""
        kind = self.preload.kind_of(key)
        box = self.take(kind, now) if kind else None
        if box is not None:
            box.key, box.spec = key, None
            box.is_ahead = False
            box.enter(Stage.STARTING, now)
        return box

    def _evict(self, now: float) -> list[Action]:
        """Stop the idle sandbox that is worth least, of whatever key; kept ones last."""
        oldest = self.resting.oldest()
        if not oldest:
            return []
        return self._leave(min(oldest, key=lambda b: (self.is_kept(b), b.worth)), now)

    def _leave(self, box: Sandbox, now: float) -> list[Action]:
        self.evicted += 1
        self._worths.evicted(box)
        return self.stop(box, now, ColdBecause.EVICTED)

    def _all_of(self, key: str) -> Iterator[Sandbox]:
        boxes = self.sandboxes.values()
        return (b for b in boxes if b.key == key and b.stage is not Stage.STOPPING)

    def _because(self, key: str) -> ColdBecause:
        """Return why a call of this key finds no idle sandbox."""
        if self.alive_of(key):
            return ColdBecause.BUSY
        return self._partings.because(key)

    def _has_died(self, box: Sandbox) -> None:
        if not box.is_generic:
            self._partings.left(box.key, ColdBecause.DIED)
