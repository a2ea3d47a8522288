"""One life of a child process: started with its pipes, watched until its end."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

SOURCE_ROOT: Final = Path(__file__).resolve().parents[1]
#: Options that mean something else, or nothing, in a child; and what only one may know.
NOT_INHERITED: Final = (
    "SKEP_NAME",
    "SKEP_URL",
    "SKEP_READY_FD",
    "SKEP_LIFELINE_FD",
    "SKEP_STORE",
)
_READY_LINE_LIMIT: Final = 65_536
_PR_SET_CHILD_SUBREAPER: Final = 36


class Life:
    """A started child; calls back when it is ready and when it is gone."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        log: Any,
        keep_fds: Sequence[int],
        lifeline: int,
        environment: Mapping[str, str],
        on_ready: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._on_ready, self._on_exit = on_ready, on_exit
        self._line = bytearray()
        self._ready, write = os.pipe()
        options = ["--ready-fd", str(write), "--lifeline-fd", str(lifeline)]
        try:
            self._process = subprocess.Popen(
                [*command, *options],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write, lifeline, *keep_fds],
                env=dict(environment),
                # Ctrl-C at the terminal is the parent's alone: it stops them in order.
                start_new_session=True,
            )
        except OSError:
            os.close(self._ready)
            raise
        finally:
            os.close(write)
        self._end = os.pidfd_open(self._process.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ready, self._read)
        loop.add_reader(self._end, self._ended)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one to a process that is gone does nothing."""
        self._process.send_signal(number)

    def _read(self) -> None:
        data = os.read(self._ready, 4096)
        self._line += data
        if data and b"\n" not in data and len(self._line) < _READY_LINE_LIMIT:
            return
        self._close_ready()
        if b"\n" in self._line:
            self._on_ready(_facts(bytes(self._line)))

    def _close_ready(self) -> None:
        if self._ready >= 0:
            asyncio.get_running_loop().remove_reader(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._end)
        os.close(self._end)
        status = self._process.wait()
        self._close_ready()
        self._on_exit(status)


def _facts(line: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def environment(token: str | None) -> dict[str, str]:
    """Return what children inherit: our modules found first, and nothing by a relative path.

    The token travels here and not on a command line, which every user of a machine can read.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
    paths = [str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(":") if p]
    if str(SOURCE_ROOT) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths.insert(0, str(SOURCE_ROOT))
    if paths:
        inherited["PYTHONPATH"] = ":".join(paths)
    if token:
        inherited["SKEP_TOKEN"] = token
    return inherited


def adopt_orphans() -> None:
    """Make the orphans of a killed child ours, so that nothing of it is left unseen."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def child_pids() -> set[int]:
    """Return the pids of this process's children, zombies too; none where /proc is silent."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in task.read_text().split())
        except OSError:
            # A thread that ended while we looked.
            continue
    return found


def reap(pids: set[int]) -> set[int]:
    """Collect those of these children that have ended; return those that live."""
    living = set()
    for pid in pids:
        try:
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                living.add(pid)
        except ChildProcessError:
            continue
    return living
