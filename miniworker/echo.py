"""How a miniworker knows that all which a container has printed has come: by an echo.

What a container prints reaches the engine by two pipes, and from there those who are attached,
some time later. So a word that nobody else knows is written into the pipes behind what was
printed: once it comes back, all before it has come. Of what is printed it is taken out again,
and the engine keeps no log of such a container that it could stand in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import Final

STREAMS: Final = ("1", "2")
#: It cannot be guessed, so nothing that is printed is taken for it.
WORD_BYTES: Final = 16


class Echo:
    """The standard streams of one container, as its first process has them."""

    def __init__(self, pid: int) -> None:
        """Hold the streams of a process; one that has ended, or is not seen, has none."""
        self._word = secrets.token_bytes(WORD_BYTES)
        self._folder: int | None = None
        #: What may be the beginning of the word, of stdout and of stderr.
        self._held = [b"", b""]
        self._to_write: list[str] = []
        self._awaited = 0
        with contextlib.suppress(OSError):
            # The folder stays this process's, whoever gets its number later.
            self._folder = os.open(f"/proc/{pid}/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __repr__(self) -> str:
        return f"<Echo: {self._awaited} to come>"

    @property
    def is_awaited(self) -> bool:
        """Return whether a word that was written has not come back."""
        return self._awaited > 0

    def call(self) -> bool:
        """Write the word behind what was printed so far; return whether it will come back.

        A stream that is no pipe is left alone: the first process prints elsewhere.
        """
        if self._folder is not None:
            self._to_write += STREAMS
            self._awaited += len(STREAMS)
            self._write()
        return self.is_awaited

    def take(self, out: bytes, err: bytes) -> tuple[bytes, bytes]:
        """Return what was printed to both without the word, and note how often it came."""
        heard = self._without(0, out), self._without(1, err)
        # What was full has been read.
        self._write()
        return heard

    def give_up(self) -> None:
        """Wait for no word any more, and write none: this way it does not come back."""
        self._awaited = 0
        self._to_write.clear()
        self.close()

    def close(self) -> None:
        """Let the streams go."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _write(self) -> None:
        left = []
        for stream in self._to_write:
            try:
                self._awaited -= not self._has_written(stream)
            except BlockingIOError:
                left.append(stream)
        self._to_write = left

    def _has_written(self, stream: str) -> bool:
        """Return whether it went; it never will where nobody reads, or it is no pipe.

        Raises:
            BlockingIOError: the pipe is full.
        """
        # Open for this moment only: the end of a pipe is the end of those that print.
        how = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(stream, how, dir_fd=self._folder)
        except OSError:
            return False
        try:
            return stat.S_ISFIFO(os.fstat(fd).st_mode) and os.write(fd, self._word) > 0
        except BlockingIOError:
            raise
        except OSError:
            return False
        finally:
            os.close(fd)

    def _without(self, stream: int, data: bytes) -> bytes:
        if not self.is_awaited and not self._held[stream]:
            return data
        parts = (self._held[stream] + data).split(self._word)
        self._awaited = max(0, self._awaited - (len(parts) - 1))
        said = b"".join(parts)
        begun = self._begun(parts[-1]) if self.is_awaited else 0
        self._held[stream] = said[len(said) - begun :]
        return said[: len(said) - begun]

    def _begun(self, end: bytes) -> int:
        """Return how many bytes of the word stand at the end."""
        sizes = range(min(len(end), WORD_BYTES - 1), 0, -1)
        return next((n for n in sizes if end.endswith(self._word[:n])), 0)
