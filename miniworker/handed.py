"""How many attempts a miniworker has handed to its agent, in memory that outlives it.

The zygote makes it before it forks, and reads it when the miniworker has ended: what was
never handed over, or can be taken back from the agent, has not begun, whatever killed the
miniworker.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

from miniworker.mark import Mark

_COUNT: Final = struct.Struct("<Q?")


class Handed:
    """What a zygote and one miniworker share: a number, and the mark of its sandbox.

    The number is beyond the reach of the sandbox, the mark is not.
    """

    def __init__(self) -> None:
        self.mark = Mark()
        self._memory = mmap.mmap(-1, _COUNT.size)

    def __repr__(self) -> str:
        return f"<Handed at {self._read()[0]}, {self.mark!r}>"

    def note(self, serial: int, *, revocable: bool = False) -> None:
        """Count an attempt that is handed over next: from here on it may have begun.

        It is ``revocable`` if the agent looks at the mark before it begins anything.
        """
        _COUNT.pack_into(self._memory, 0, serial, revocable)

    def begun(self) -> int:
        """Let nothing begin any more; return the serial of the last that may have."""
        serial, revocable = self._read()
        return min(serial, self.mark.revoke(serial)) if revocable else serial

    def _read(self) -> tuple[int, bool]:
        serial, revocable = _COUNT.unpack_from(self._memory)
        return serial, revocable

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()
        self.mark.close()
