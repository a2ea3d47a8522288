"""Which sandboxes are made ahead of calls, and which leave when memory is tight. Pure.

Always off the path: while a sandbox that a call waits for is being made, nothing else is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire.messages import ColdBecause
from worker.actions import Action
from worker.boxes import MAKING, Sandbox, Stage
from worker.pool import Pool
from worker.preload import Wish
from worker.pressure import Claim, Idle, Level, Reading, leaving, level

#: How many are made ahead at the same time.
PARALLEL: Final = 2
FIRST_S: Final = 1.0
LAST_S: Final = 60.0


@dataclass(slots=True)
class Setback:
    """How often in a row one of a key could not be made, and until when none is tried."""

    count: int = 0
    until: float = 0.0


class Keeping:
    """What waits for calls that have not come yet."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._setbacks: dict[str, Setback] = {}
        self.level = Level.EASY

    def __repr__(self) -> str:
        return f"<Keeping {len(self._pool.preload.wishes())} wishes, memory {self.level.name}>"

    def due(self, now: float) -> list[Action]:
        """Begin what is missing, if this is a moment for it."""
        self._pool.preload.refresh()
        if self.level is not Level.EASY or self._pool.makes_for_calls():
            return []
        actions: list[Action] = []
        for wish in self._missing(now):
            if self._making() >= PARALLEL:
                break
            if wish.stand_in is not None and self._pool.has_generics:
                continue
            room = self._pool.room(now)
            if room is None:
                break
            actions += [*room, *self._pool.make_ahead(wish, now)]
        return actions

    def failed(self, box: Sandbox, now: float) -> None:
        """One that was made ahead could not be, or died before anybody had it."""
        if not box.is_ahead:
            return
        setback = self._setbacks.setdefault(box.key, Setback())
        setback.until = now + min(LAST_S, FIRST_S * 2.0**setback.count)
        setback.count += 1

    def went_well(self, box: Sandbox) -> None:
        """A sandbox has got ready for a function; what only waits has yet to prove itself."""
        if not box.is_generic:
            self._setbacks.pop(box.key, None)
            self._setbacks.pop(box.kind, None)

    def pressed(self, reading: Reading, now: float) -> list[Action]:
        """Look at the memory: let go what has to leave for it."""
        self.level = level(reading)
        idle = [self._idle(box) for box in self._pool if box.stage is Stage.IDLE]
        actions: list[Action] = []
        for name in leaving(self.level, idle):
            box = self._pool.sandboxes[name]
            actions += self._pool.stop(box, now, ColdBecause.MEMORY)
        return actions

    def _idle(self, box: Sandbox) -> Idle:
        claim = Claim.NOBODY
        if self._pool.is_kept(box):
            claim = Claim.GENERIC if box.is_generic else Claim.FUNCTION
        return Idle(box.name, box.worth, claim)

    def _missing(self, now: float) -> list[Wish]:
        """Return the wishes that lack something: functions first, then who has least."""
        found = [
            (wish.stand_in is not None, have, at, wish)
            for at, wish in enumerate(self._pool.preload.wishes())
            if (have := self._pool.alive_of(wish.key)) < wish.least and self._may(wish, now)
        ]
        return [wish for *_, wish in sorted(found, key=lambda one: one[:3])]

    def _may(self, wish: Wish, now: float) -> bool:
        setback = self._setbacks.get(wish.key)
        return setback is None or now >= setback.until

    def _making(self) -> int:
        return sum(1 for box in self._pool if box.is_ahead and box.stage in MAKING)
