"""Files that are there, whole, after a crash: the one way in which the store writes.

``Disk`` is what the operating system offers, step by step; ``Files`` is how these steps
make a write durable. Tests put a disk beneath that forgets whatever was not synced
(``dbnode.testing``), so each step here is there because a test fails without it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from wire.counting import Buckets
from wire.errors import StoreUnavailable

TEMPORARY: Final = ".tmp"
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class Disk(Protocol):
    """The steps; paths are relative to the store's folder. All may raise ``OSError``."""

    def read(self, path: str, offset: int = 0, length: int = -1) -> bytes:
        """Return the bytes of a file, or a piece of them."""

    def write(self, path: str, data: bytes) -> None:
        """Make a file, or overwrite it; nothing of it is durable yet."""

    def sync(self, path: str) -> None:
        """Make the bytes of a file durable, but not yet that it has this name."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, replacing what had it; not durable yet."""

    def remove(self, path: str) -> None:
        """Take a name away; not durable yet."""

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""

    def make_folder(self, path: str) -> None:
        """Make a folder unless it is there; not durable yet."""

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder; not durable yet."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""

    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder of this name."""

    def size(self, path: str) -> int:
        """Return the bytes of a file, or of all below a folder; 0 if it is not there."""


class OsDisk:
    """The real disk, below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"<OsDisk {self._root}>"

    def read(self, path: str, offset: int = 0, length: int = -1) -> bytes:
        """Return the bytes of a file, or a piece of them."""
        with (self._root / path).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def write(self, path: str, data: bytes) -> None:
        """Make a file, or overwrite it."""
        # Params and results may be secret: the store's files are for its owner alone.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(self._root / path, flags, 0o600), "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]

    def sync(self, path: str) -> None:
        """Make the bytes of a file durable."""
        with _opened(self._root / path, os.O_RDONLY) as fd:
            os.fdatasync(fd)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        (self._root / source).replace(self._root / target)

    def remove(self, path: str) -> None:
        """Take a name away."""
        (self._root / path).unlink()

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""
        with _opened(self._root / path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)

    def make_folder(self, path: str) -> None:
        """Make a folder unless it is there."""
        (self._root / path).mkdir(mode=0o700, exist_ok=True)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        (self._root / path).rmdir()

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(os.listdir(self._root / path))  # noqa: PTH208 (names, not paths)

    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder of this name."""
        return (self._root / path).exists()

    def size(self, path: str) -> int:
        """Return the bytes of a file, or of all below a folder; 0 if it is not there."""
        whole = self._root / path
        total = 0
        for file in whole.rglob("*") if whole.is_dir() else (whole,):
            # What is counted may go meanwhile.
            with suppress(FileNotFoundError):
                total += file.stat().st_size
        return total


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class Files:
    """Durable writes on a disk. Names become durable with ``settle``, many at once."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        #: Folders whose names are not durable yet.
        self._unsettled: dict[str, None] = {}
        #: What each sync cost, in seconds.
        self.syncs = Buckets()

    def __repr__(self) -> str:
        return f"<Files on {self.disk!r}>"

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file; None if there is none."""
        try:
            return self.disk.read(path)
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Replace a file in one step: it is the old or the new one; durable once settled."""
        temporary = path + TEMPORARY
        self.disk.write(temporary, data)
        # Before it gets its name, or the name could outlive a crash without its bytes.
        self._timed(self.disk.sync, temporary)
        self.disk.rename(temporary, path)
        self._unsettled[folder_of(path)] = None

    def move(self, source: str, target: str) -> None:
        """Give a file another name, durable once settled."""
        self.disk.rename(source, target)
        # The new name first: a crash between the two leaves both, never none.
        self._unsettled[folder_of(target)] = None
        self._unsettled[folder_of(source)] = None

    def settle(self) -> None:
        """Make all names durable that were given so far."""
        while self._unsettled:
            folder = next(iter(self._unsettled))
            self._timed(self.disk.sync_folder, folder)
            del self._unsettled[folder]

    def _timed(self, sync: Callable[[str], None], path: str) -> None:
        begun = time.perf_counter()
        sync(path)
        self.syncs.observe(time.perf_counter() - begun)

    def make_folder(self, path: str) -> None:
        """Make a folder unless it is there, durable once settled."""
        if not self.disk.exists(path):
            self._unsettled[folder_of(path)] = None
            self.disk.make_folder(path)

    def discard(self, path: str) -> None:
        """Remove a file that nothing names any more; it may come back in a crash."""
        try:
            self.disk.remove(path)
        except FileNotFoundError:
            return

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; none if it is not there."""
        try:
            return self.disk.list(path)
        except FileNotFoundError:
            return []


def folder_of(path: str) -> str:
    """Return the folder a path lies in; the store's own is ``.``."""
    return path.rpartition("/")[0] or "."


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the disk refuses into an error that says what to do about it."""
    try:
        yield
    except OSError as error:
        hint = "look at the disk and the rights of the store's folder; nothing was changed"
        if error.errno in _NO_SPACE:
            hint = "make room on its disk (or raise the quota): it goes on by itself then"
        raise StoreUnavailable(f"the store cannot {doing}: {error}", hint=hint) from error
