"""When a node on which no sandbox could be made may try again. Pure.

While its engine is away a node that took every call would fail each of them in turn. So it
takes no new ones for a while, then a single one, and all again once that went well. Sandboxes
that are there serve on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 1.0
LAST_S: Final = 30.0


@dataclass(slots=True)
class Setbacks:
    """The failures in a row, and the pause after the last one."""

    count: int = 0
    until: float = 0.0

    def failed(self, now: float) -> None:
        """Note that this node could not make a sandbox; several at once are one failure."""
        if now >= self.until:
            self.until = now + min(LAST_S, FIRST_S * 2.0**self.count)
            self.count += 1

    def went_well(self) -> None:
        """Note that it could."""
        self.count, self.until = 0, 0.0

    @property
    def words(self) -> str:
        """Say why slots are withheld."""
        times = "once" if self.count == 1 else f"{self.count} times in a row"
        return f"no sandbox could be made here {times}; it tries one at a time"

    def allowed(self, free: int, now: float) -> int:
        """Return in how many of the free slots a sandbox may be made."""
        if self.count == 0:
            return free
        return min(free, 1 if now >= self.until else 0)
