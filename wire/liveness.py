"""Who is alive, judged from what was heard and when: pure, the clock is handed in.

After ``silent_s`` without a word a peer gets no new work; after ``lost_s`` its session is
lost. Whoever judges must have read its sockets first; and when the judge's own loop stood
still, everybody gets a fresh limit, because their words may still lie unread.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

HEARTBEAT_S: Final = 1.0
SILENT_S: Final = 3.0
LOST_S: Final = 10.0

K = TypeVar("K", bound=Hashable)


class Pulse(enum.Enum):
    """What a peer's silence amounts to."""

    ALIVE = "alive"
    SILENT = "silent"
    LOST = "lost"


class Liveness(Generic[K]):
    """The last word of each peer, and the judgement of all of them at once."""

    def __init__(
        self,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        silent_s: float = SILENT_S,
        lost_s: float = LOST_S,
    ) -> None:
        self._late_s = 2 * heartbeat_s
        self._silent_s = silent_s
        self._lost_s = lost_s
        self._heard: dict[K, float] = {}
        self._judged: float | None = None

    def __repr__(self) -> str:
        return f"<Liveness of {len(self._heard)} peers, lost after {self._lost_s} s>"

    def heard(self, peer: K, now: float) -> None:
        """Note a word (any message) of a peer; the first one makes it known."""
        self._heard[peer] = now

    def forget(self, peer: K) -> None:
        """Stop judging a peer; unknown ones are fine."""
        self._heard.pop(peer, None)

    def judge(self, now: float) -> dict[K, Pulse]:
        """Return the pulse of every peer. Call it about once a heartbeat."""
        if self.slept(now):
            self._heard = dict.fromkeys(self._heard, now)
        self._judged = now
        return {peer: self._pulse(now - at) for peer, at in self._heard.items()}

    def slept(self, now: float) -> bool:
        """Return whether the judge itself was late by more than one heartbeat."""
        return self._judged is not None and now - self._judged > self._late_s

    def _pulse(self, silence_s: float) -> Pulse:
        if silence_s >= self._lost_s:
            return Pulse.LOST
        return Pulse.SILENT if silence_s >= self._silent_s else Pulse.ALIVE
