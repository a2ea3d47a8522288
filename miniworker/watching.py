"""What a build prints, read while it runs: a pipe with a name beside the agent's socket.

The sandbox sees that folder read-only, but what is a pipe may be written there. Nothing is
asked of the agent, and nothing of what comes is trusted: this process holds the pipe by its
descriptor, reads at its own pace, and an installer that prints faster waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from miniworker.printed import Printed

#: The pipe's name in the folder of sockets.
PIPE_NAME: Final = "printed"
#: What one read takes: as much as a pipe holds.
READ_BYTES: Final = 64 << 10
#: What is shown while it runs is shown so often at most.
PACE_S: Final = 0.1


class Watch:
    """The pipe of one build, and what came through it."""

    def __init__(self, folder: Path, environments: Iterable[Mapping[str, str]]) -> None:
        self.printed = Printed(environments)
        self._shown_at = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        pipe = folder / PIPE_NAME
        os.mkfifo(pipe)
        # Whoever is in the sandbox may write it, and only this user read it.
        pipe.chmod(0o622)
        # Writable here too: with no writer at all it would be at its end for ever.
        self._fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __repr__(self) -> str:
        return f"<Watch of {self.printed!r}>"

    def fileno(self) -> int:
        """Return what is readable when something was printed."""
        return self._fd

    def read(self) -> bool:
        """Take a pipe full; return whether there was anything."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        self.printed.take(data)
        return True

    def due(self, now: float) -> str:
        """Return what is to be shown now; empty if nothing is."""
        if now < self._shown_at + PACE_S or not self.printed.has_more:
            return ""
        self._shown_at = now
        return self.printed.piece()

    def wake_at(self) -> float | None:
        """Return when ``due`` will have something; None while nothing waits."""
        return self._shown_at + PACE_S if self.printed.has_more else None

    def close(self) -> None:
        """Read what is left, now that nothing writes any more."""
        while self.read():
            pass
        self.printed.end()
        os.close(self._fd)
