"""How many attempts a miniworker has handed to its agent, in memory that outlives it.

The zygote makes it before it forks, and reads it when the miniworker has ended: what was
never handed over has not begun, whatever killed the miniworker.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

_COUNT: Final = struct.Struct("<Q")


class Handed:
    """One number, shared between a zygote and one miniworker."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _COUNT.size)

    def __repr__(self) -> str:
        return f"<Handed at {self.read()}>"

    def note(self, serial: int) -> None:
        """Count an attempt that is handed over next: from here on it may have begun."""
        _COUNT.pack_into(self._memory, 0, serial)

    def read(self) -> int:
        """Return the serial of the last attempt handed over; 0 before the first."""
        serial: int = _COUNT.unpack_from(self._memory)[0]
        return serial

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()
