"""How tight memory is, and which idle sandboxes leave for it: pure functions of a reading."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Part of the memory that is available, and percent of the time that tasks stalled for it.
TIGHT: Final = (0.10, 20.0)
CRITICAL: Final = (0.04, 60.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """The memory of the machine, or of the worker's cgroup where that has less."""

    available: int
    total: int
    #: PSI, some avg10; 0 where the kernel does not tell.
    stalled: float = 0.0


class Level(enum.IntEnum):
    """How tight it is."""

    EASY = 0
    TIGHT = 1
    CRITICAL = 2


class Claim(enum.IntEnum):
    """Who wants an idle sandbox to stay, the weakest first."""

    NOBODY = 0
    #: It is one of the generic ones that should wait.
    GENERIC = 1
    #: Its function's ``minWarm``.
    FUNCTION = 2


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle sandbox: what it is worth (``worker.keep_alive``), and for whom it stays."""

    name: str
    worth: float
    claim: Claim


def level(reading: Reading) -> Level:
    """Return how tight memory is."""
    for limits, found in ((CRITICAL, Level.CRITICAL), (TIGHT, Level.TIGHT)):
        least, stalled = limits
        if reading.available < least * reading.total or reading.stalled > stalled:
            return found
    return Level.EASY


def leaving(how: Level, idle: Sequence[Idle]) -> list[str]:
    """Return the names of those that leave: what nobody claims first, then worth least."""
    ranked = sorted(idle, key=lambda one: (one.claim, one.worth))
    if how is Level.CRITICAL:
        return [one.name for one in ranked[: (len(ranked) + 1) // 2]]
    if how is Level.TIGHT:
        return [one.name for one in ranked[:1] if one.claim < Claim.FUNCTION]
    return []
