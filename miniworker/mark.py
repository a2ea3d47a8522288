"""What tells which of the attempts handed to an agent have begun, whoever has died since."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from functools import cached_property
from typing import Final

from miniworker import agent

_NUMBER: Final = struct.Struct("<Q")
_BEGUN: Final = 0
#: Beyond what the processes of an agent tell each other (``runtimes/python/agent.py: Page``).
_REVOKED: Final = 32
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Mark:
    """The last attempt that the agent began, and the last that it may not begin any more.

    In memory that is shared with the agent, and outlives it and the miniworker.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("mark", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, agent.MARK_BYTES)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)

    def __repr__(self) -> str:
        return f"<Mark {self.fd}>"

    @cached_property
    def _memory(self) -> mmap.mmap:
        # By each process for itself: a map has a descriptor of its own, and closes its number.
        return mmap.mmap(self.fd, agent.MARK_BYTES)

    def read(self) -> int:
        """Return the serial of the last attempt begun; 0 before the first."""
        number: int = _NUMBER.unpack_from(self._memory, _BEGUN)[0]
        return number

    def revoke(self, serial: int) -> int:
        """Let nothing up to this serial begin from now on; return the last that has.

        The agent writes the mark before it looks for this, and this is written before the
        mark is read: so one of the two sees what the other wrote. A processor may read before
        it has written; a system call in between keeps the order.
        """
        _NUMBER.pack_into(self._memory, _REVOKED, serial)
        time.sleep(0)
        return self.read()

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()
        os.close(self.fd)
