"""Holds back answers while the store is behind, so that who asks for more has to wait for it.

A synchronous call is answered before it is stored. So clients with large params or results
could have more recorded than a disk takes, until the outbox is full and calls are refused. From
where it is half full their answers wait until it is less, while the store takes records at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from api.outbox import Outbox

#: How long an answer is held back at most.
HOLD_S: Final = 1.0
#: A store that took nothing for so long is away, and waiting for it would help nobody.
AWAY_S: Final = 3.0


class Restraint:
    """The ended calls whose clients are not told yet."""

    def __init__(self, outbox: Outbox, tell: Callable[[int], None]) -> None:
        self._outbox = outbox
        self._tell = tell
        self._held: dict[int, asyncio.TimerHandle] = {}
        self._stored_at = float("-inf")
        #: How many ends were held back so far.
        self.held_count = 0

    def __repr__(self) -> str:
        return f"<Restraint of {len(self._held)} answers>"

    def ended(self, num: int) -> None:
        """A call has ended: tell who waits for it, now or as soon as may be."""
        if not self._outbox.is_half_full:
            self._tell(num)
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._stored_at > AWAY_S:
            self._tell(num)
        else:
            self.held_count += 1
            self._held[num] = loop.call_later(HOLD_S, self._release, num)

    def stored(self) -> None:
        """The store has taken a record."""
        self._stored_at = asyncio.get_running_loop().time()
        if self._held and not self._outbox.is_half_full:
            self.close()

    def close(self) -> None:
        """Hold back nothing any more."""
        for num in list(self._held):
            self._release(num)

    def _release(self, num: int) -> None:
        timer = self._held.pop(num, None)
        if timer is not None:
            timer.cancel()
            self._tell(num)
