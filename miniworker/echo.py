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
from pathlib import Path
from typing import Final

from miniworker.processes import parent

STREAMS: Final = ("1", "2")
#: It cannot be guessed, so nothing that is printed is taken for it.
WORD_BYTES: Final = 32


class Echo:
    """The standard streams of one container, as its first process has them."""

    def __init__(self, pid: int) -> None:
        """Hold the streams of a process; one that has ended, or is not seen, has none."""
        self._word = secrets.token_hex(WORD_BYTES // 2).encode()
        self._folder: int | None = None
        #: What whoever started the process reads: nothing else is written to.
        self._pipes: frozenset[str] = frozenset()
        #: What may be the beginning of the word, of stdout and of stderr.
        self._held = [b"", b""]
        self._to_write: list[str] = []
        #: How many are written and have not come back.
        self._away = 0
        self._is_given_up = False
        with contextlib.suppress(OSError):
            self._pipes = _pipes(parent(pid))
            # The folder stays this process's, whoever gets its number later.
            self._folder = os.open(f"/proc/{pid}/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __repr__(self) -> str:
        return f"<Echo: {self._to_come} to come>"

    @property
    def is_awaited(self) -> bool:
        """Return whether a word is to come back."""
        return self._to_come > 0 and not self._is_given_up

    @property
    def _to_come(self) -> int:
        return self._away + len(self._to_write)

    def call(self) -> bool:
        """Write the word behind what was printed so far; return whether it comes back of both.

        A stream that goes elsewhere than to the engine is left alone.
        """
        if self._folder is None:
            return False
        before = self._to_come
        self._to_write += STREAMS
        self._write()
        return self._to_come - before == len(STREAMS)

    def take(self, out: bytes, err: bytes) -> tuple[bytes, bytes]:
        """Return what was printed to both without the word, and note how often it came."""
        out, err = self._without(0, out), self._without(1, err)
        # What was full has been read.
        self._write()
        if not self._to_come:
            # Both words may have come by one stream, and the other looks like more of them.
            held, self._held = self._held, [b"", b""]
            out, err = out + held[0], err + held[1]
        return out, err

    def give_up(self) -> tuple[bytes, bytes]:
        """Write no word and wait for none any more; return what was kept back of both streams.

        One that still comes is taken out all the same.
        """
        out, err = self._held
        self._held = [b"", b""]
        self._is_given_up = True
        self._to_write.clear()
        self.close()
        return out, err

    def close(self) -> None:
        """Let the streams go."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _write(self) -> None:
        left = []
        for stream in self._to_write:
            try:
                self._away += self._has_written(stream)
            except BlockingIOError:
                left.append(stream)
        self._to_write = left

    def _has_written(self, stream: str) -> bool:
        """Return whether it went; it never will where nobody reads, or somebody else does.

        Raises:
            BlockingIOError: the pipe is full.
        """
        # Open for this moment only: the end of a pipe is the end of those that print.
        how = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            if os.readlink(stream, dir_fd=self._folder) not in self._pipes:
                return False
            fd = os.open(stream, how, dir_fd=self._folder)
        except OSError:
            return False
        try:
            # Once more: what was looked at may have been another.
            is_it = str(Path(f"/proc/self/fd/{fd}").readlink()) in self._pipes
            return is_it and os.write(fd, self._word) > 0
        except BlockingIOError:
            raise
        except OSError:
            return False
        finally:
            os.close(fd)

    def _without(self, stream: int, data: bytes) -> bytes:
        if not self._away and not self._held[stream]:
            return data
        parts = (self._held[stream] + data).split(self._word)
        self._away = max(0, self._away - (len(parts) - 1))
        said = b"".join(parts)
        begun = self._begun(parts[-1]) if self._away else 0
        self._held[stream] = said[len(said) - begun :]
        return said[: len(said) - begun]

    def _begun(self, end: bytes) -> int:
        """Return how many bytes of the word stand at the end."""
        sizes = range(min(len(end), WORD_BYTES - 1), 0, -1)
        return next((n for n in sizes if end.endswith(self._word[:n])), 0)


def _pipes(pid: int | None) -> frozenset[str]:
    """Return the pipes that a process has, by their names in ``/proc``; raise if it is gone."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return frozenset(name for name in found if name.startswith("pipe:["))
