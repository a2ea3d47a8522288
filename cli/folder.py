"""The data folder: where it is, who holds it, its sockets' folder and its logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final

#: A log file larger than this is moved aside; one older generation is kept.
LOG_LIMIT_BYTES: Final = 4 * 1024 * 1024
#: How long the processes of a killed ``skep up`` may take to notice and stop.
HANDOVER_S: Final = 30.0


class FolderInUse(Exception):
    """Another skep holds the folder; the text says which."""


def default_folder() -> Path:
    """Return the folder of a user who names none."""
    base = os.environ.get("XDG_DATA_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return root / "skep"


class Folder:
    """One data folder, held under a lock while any process of this installation lives.

    The children inherit the lock: after ``kill -9`` of the parent the next one waits until
    the last of them is gone, instead of running beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.run = self.path / "run"
        self._lock = -1

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r}, held={self.is_held})"

    @property
    def is_held(self) -> bool:
        """Return whether this object holds the lock."""
        return self._lock >= 0

    @property
    def lock_fd(self) -> int:
        """Return the descriptor that children inherit to hold the lock as well."""
        return self._lock

    def take(
        self, limit_s: float = HANDOVER_S, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """Make the folder and lock it, or raise ``FolderInUse`` if another skep runs in it.

        ``on_wait`` is called once if it is dead but not all that it started is gone yet.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path / "skep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._await_lock(fd, limit_s, on_wait)
        except BaseException:
            os.close(fd)
            raise
        self._lock = fd
        self.describe(pid=os.getpid())
        self.run.mkdir(mode=0o700, exist_ok=True)
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    def _await_lock(self, fd: int, limit_s: float, on_wait: Callable[[], None]) -> None:
        end, waits = time.monotonic() + limit_s, 0
        while not _try_lock(fd):
            holder = _holder(fd)
            if _is_alive(holder.get("pid")) or time.monotonic() > end:
                raise FolderInUse(_sentence(self.path, holder))
            if waits == 0:
                on_wait()
            waits += 1
            time.sleep(0.05)

    def describe(self, **facts: Any) -> None:
        """Write into the lock who holds it, for the one who finds it held."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(facts).encode(), 0)

    def log_of(self, child: str) -> LogFile:
        """Return the log file of a child."""
        return LogFile(self.path / "logs" / f"{child}.log")

    def clear_run(self, names: Iterable[str]) -> None:
        """Remove what a killed process left of its sockets; a stranger's files stay."""
        for name in names:
            entry = self.run / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the folder of sockets if it is empty, and give up the lock."""
        if not self.is_held:
            return
        # Not ours alone, or gone already: what a stranger put there is the stranger's.
        with contextlib.suppress(OSError):
            self.run.rmdir()
        os.close(self._lock)
        self._lock = -1


class LogFile:
    """Where a child's stderr goes; remembers how far it was read for warnings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def open(self) -> BinaryIO:
        """Open it for a new child, which writes by itself: no one stands between."""
        self.rotate()
        file = self.path.open("ab")
        self._offset = file.tell()
        return file

    def rotate(self) -> None:
        """Move a large file's content aside; its writer appends on to the emptied one."""
        if _size(self.path) > LOG_LIMIT_BYTES:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            os.truncate(self.path, 0)
            self._offset = 0

    def fresh_lines(self) -> list[str]:
        """Return the whole lines written since the last time."""
        if _size(self.path) == self._offset:
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read(LOG_LIMIT_BYTES)
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()

    def last_lines(self, count: int = 15) -> list[str]:
        """Return the end of the file."""
        size = _size(self.path)
        if not size:
            return []
        with self.path.open("rb") as file:
            file.seek(max(0, size - 16_384))
            return file.read().decode(errors="replace").splitlines()[-count:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> dict[str, Any]:
    try:
        facts = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sentence(path: Path, holder: dict[str, Any]) -> str:
    url = f", {holder['url']}" if "url" in holder else ""
    return f"another skep runs in {path} (process {holder.get('pid', 'unknown')}{url})"
