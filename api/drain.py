"""How fast calls end, and so when a full queue will have room: pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: What is measured: the calls of so many seconds, in pieces of one.
WINDOW_S: Final = 10.0
STEP_S: Final = 1.0
#: Nobody is sent away for longer, nor for less than can be said.
MAX_S: Final = 60
MIN_S: Final = 1
#: While nothing ends, or nothing is known yet, to look again is all that can be done.
AGAIN_S: Final = 5
#: The part of a full queue that is to have gone when the client comes back.
_PART: Final = 0.1


class Drain:
    """The rate at which calls end."""

    def __init__(self) -> None:
        #: (moment, calls ended until then), a step apart.
        self._samples: deque[tuple[float, int]] = deque()

    def __repr__(self) -> str:
        return f"<Drain of {self.rate:.1f} calls/s>"

    def is_due(self, now: float) -> bool:
        """Return whether ``saw`` should be called."""
        return not self._samples or now >= self._samples[-1][0] + STEP_S

    def saw(self, ended: int, now: float) -> None:
        """``ended`` calls have ended since the api began."""
        self._samples.append((now, ended))
        while self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Return how many calls end in a second."""
        if len(self._samples) < 2:
            return 0.0
        (begun, before), (now, ended) = self._samples[0], self._samples[-1]
        return (ended - before) / (now - begun)

    def retry_after_s(self, waiting: int) -> int:
        """Return after how many seconds a tenth of the calls that wait will have gone."""
        rate = self.rate
        if not rate:
            return AGAIN_S
        return min(MAX_S, max(MIN_S, math.ceil(waiting * _PART / rate)))
