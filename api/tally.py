"""What dispatch counts of calls and attempts, for people to watch. Pure.

A function is counted by its name as long as the catalogue has it; what it counted then goes
to ``OTHERS``, so that there are never more series than functions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container
from typing import Final

from api.ledger import Way
from api.live import Live
from wire.counting import Buckets
from wire.models import Status

#: Stands for all functions without a series of their own; no function can be called so.
OTHERS: Final = "_other"
#: The parts of a call's time, and all of it.
STAGES: Final = ("queued", "prepare", "run", "total")
#: How a START finds its sandbox.
WAYS: Final = {Way.IDLE: "idle", Way.AHEAD: "ahead", Way.READY: "cold"}


class Tally:
    """Counts since this api began."""

    def __init__(self) -> None:
        #: By function and status.
        self.calls: Counter[tuple[str, str]] = Counter()
        #: Seconds of execution by function.
        self.run_s: defaultdict[str, float] = defaultdict(float)
        self.stages = {stage: Buckets() for stage in STAGES}
        #: By way.
        self.starts: Counter[str] = Counter()
        #: By the status that an attempt ended with; RETURNED if it never began.
        self.attempts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Tally of {self.calls.total()} calls>"

    @property
    def hit_ratio(self) -> float | None:
        """Return which part of all STARTs needed no new sandbox; None before the first."""
        total = self.starts.total()
        return (total - self.starts["cold"]) / total if total else None

    def started(self, way: Way) -> None:
        """START was sent."""
        self.starts[WAYS.get(way, "cold")] += 1

    def attempt_ended(self, status: Status | None) -> None:
        """An attempt is over; without a status it never began."""
        self.attempts[status or "RETURNED"] += 1

    def ended(self, live: Live) -> None:
        """A call has its terminal state; its times are filled in."""
        name, finished = live.spec.function.function_name, live.finished or live.accepted
        self.calls[name, live.status] += 1
        stages = self.stages
        stages["total"].observe(max(0.0, finished - live.accepted))
        if live.dispatched is not None:
            stages["queued"].observe(max(0.0, live.dispatched - live.accepted))
        if live.dispatched is not None and live.started is not None:
            stages["prepare"].observe(max(0.0, live.started - live.dispatched))
        if live.duration_ms is not None:
            run_s = live.duration_ms / 1000
            stages["run"].observe(run_s)
            self.run_s[name] += run_s

    def fold(self, known: Container[str]) -> None:
        """Count what functions counted that are no more under ``OTHERS``."""
        for name, status in [key for key in self.calls if key[0] not in known]:
            if name != OTHERS:
                self.calls[OTHERS, status] += self.calls.pop((name, status))
        for name in [name for name in self.run_s if name not in known and name != OTHERS]:
            self.run_s[OTHERS] += self.run_s.pop(name)
