"""Virtual time: what happens when, in order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Work = Callable[[], object]


class Timeline:
    """Events by their moment; those of one moment in the order in which they were set."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.steps = 0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Work]] = []

    def __repr__(self) -> str:
        return f"<Timeline at {self.now:.3f}, {len(self._events)} events ahead>"

    def at(self, moment: float, work: Work) -> None:
        """Do something then; what is set for the past happens next."""
        heapq.heappush(self._events, (max(moment, self.now), next(self._order), work))

    def after(self, delay_s: float, work: Work) -> None:
        """Do something in so many seconds."""
        self.at(self.now + delay_s, work)

    def step(self) -> bool:
        """Let the next event happen; return whether there was one."""
        if not self._events:
            return False
        self.now, _, work = heapq.heappop(self._events)
        self.steps += 1
        work()
        return True

    def until(self, end: float) -> None:
        """Let everything happen up to a moment."""
        while self._events and self._events[0][0] <= end:
            self.step()
        self.now = max(self.now, end)


class Host:
    """A process in virtual time: it may die, and it may stand still for a while.

    What comes to one that stands still waits, in order, until it goes on.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._frozen_until = 0.0
        self._waiting: list[Work] = []
        self.is_dead = False

    def __repr__(self) -> str:
        return f"<Host {'dead' if self.is_dead else 'frozen' if self.is_frozen else 'alive'}>"

    @property
    def is_frozen(self) -> bool:
        """Return whether it stands still."""
        return self._timeline.now < self._frozen_until

    def run(self, work: Work) -> None:
        """Have it do something now, or as soon as it can; never if it is dead."""
        if self.is_dead:
            return
        if self.is_frozen:
            self._waiting.append(work)
        else:
            work()

    def after(self, delay_s: float, work: Work) -> None:
        """Have it do something in so many seconds."""
        self._timeline.after(delay_s, lambda: self.run(work))

    def every(self, period_s: float, work: Work) -> None:
        """Have it do something again and again; what was missed is done once."""

        def again() -> None:
            self.after(period_s, again)
            work()

        self.after(period_s, again)

    def freeze(self, seconds: float) -> None:
        """Stand still."""
        self._frozen_until = max(self._frozen_until, self._timeline.now + seconds)
        self._timeline.at(self._frozen_until, self._thaw)

    def die(self) -> None:
        """End, with all that it would have done."""
        self.is_dead = True
        self._waiting.clear()

    def _thaw(self) -> None:
        if self.is_frozen:
            return
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self.run(work)
