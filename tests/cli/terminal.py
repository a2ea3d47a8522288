"""A command in a real terminal: a pty of a given size, what it shows, keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.harness import environment

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])")
#: Only those that colour, make bold, dim or underline.
STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command whose stdin, stdout and stderr are one terminal."""

    def __init__(self, *arguments: str, columns: int, lines: int, **variables: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {k: v for k, v in environment().items() if k not in ("NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**kept, "TERM": "xterm-256color", **variables},
            # So that Ctrl-C in the terminal reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip
        os.close(slave)
        self._bytes = b""

    @property
    def raw(self) -> str:
        """Return all that was written so far, escape codes and all."""
        return self._bytes.decode(errors="replace")

    @property
    def text(self) -> str:
        """Return what was written without its escape codes."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def until(self, *words: str, limit_s: float = 30.0) -> str:
        """Wait until all words were written since the last time; return what was."""
        end = time.monotonic() + limit_s
        while not all(word in self.text for word in words):
            assert time.monotonic() < end, f"{words} not in:\n{self.text[-3000:]}"
            if not self._read(0.2) and self.process.poll() is not None:
                break
        shown = self.text
        assert all(word in shown for word in words), f"{words} not in:\n{shown[-3000:]}"
        return shown

    def forget(self) -> None:
        """Forget what was written so far."""
        self._bytes = b""

    def type(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def ended(self, limit_s: float = 30.0) -> int:
        """Wait for the end and return the exit status."""
        end = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it goes on:\n{self.text[-3000:]}"
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, limit_s: float) -> bool:
        if not select.select([self._master], [], [], limit_s)[0]:
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            # The other end is closed: all was read.
            return False
        self._bytes += data
        return bool(data)

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(
    *arguments: str, columns: int = 80, lines: int = 24, **variables: str
) -> Iterator[Terminal]:
    """Run a command in a terminal within the block."""
    running = Terminal(*arguments, columns=columns, lines=lines, **variables)
    try:
        yield running
    finally:
        running.close()
