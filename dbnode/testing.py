"""A disk that forgets: what was not synced is gone after a crash.

It keeps two states: what a running process sees, and what the platters hold. ``Crash`` comes
before a chosen step; ``after_crash`` then is the disk that the next process finds. As with
real disks, what was not synced may have been written all the same, in any part: ``Kept``
chooses the extremes.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field
from typing import Final

_ROOT: Final = "."


class Crash(BaseException):
    """The machine stops here (no ``Exception``: nobody may catch it and go on)."""


class Kept(enum.Enum):
    """What of the unsynced a crash leaves."""

    NOTHING = "nothing"
    #: Names outlive the crash, their bytes do not: the classic empty file.
    NAMES = "names"
    #: Names of the folder changed last outlive the crash: disks write in any order.
    LAST = "last"
    EVERYTHING = "everything"


@dataclass(slots=True)
class Inode:
    """The bytes of a file, as seen and as durable."""

    seen: bytes = b""
    durable: bytes = b""


@dataclass(slots=True)
class Folder:
    """The names in a folder, as seen and as durable."""

    seen: dict[str, Inode | Folder] = field(default_factory=dict)
    durable: dict[str, Inode | Folder] = field(default_factory=dict)


class ForgetfulDisk:
    """A ``dbnode.files.Disk`` in memory, with crashes and a full disk at chosen steps."""

    def __init__(self, root: Folder | None = None) -> None:
        self._root = root or Folder()
        self.steps = 0
        #: The step before which it crashes; None for never.
        self.crash_at: int | None = None
        #: The steps (of those that need space) that find the disk full.
        self.full_at: range = range(0)
        self.is_full = False
        self._last: Folder | None = None

    def __repr__(self) -> str:
        return f"<ForgetfulDisk after {self.steps} steps>"

    def after_crash(self, kept: Kept) -> ForgetfulDisk:
        """Return the disk that the next process finds."""
        return ForgetfulDisk(_survive(self._root, kept, self._last))

    def read(self, path: str, offset: int = 0, length: int = -1) -> bytes:
        """Return the bytes of a file, or a piece of them."""
        seen = self._file(path).seen
        return seen[offset:] if length < 0 else seen[offset : offset + length]

    def write(self, path: str, data: bytes) -> None:
        """Make a file, or overwrite it."""
        self._step(path, needs_space=True)
        folder, name = self._place(path)
        inode = folder.seen.setdefault(name, Inode())
        if isinstance(inode, Folder):
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        inode.seen = data

    def sync(self, path: str) -> None:
        """Make the bytes of a file durable."""
        self._step(path, needs_space=True)
        inode = self._file(path)
        inode.durable = inode.seen

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        self._step(source, needs_space=True)
        inode = self._file(source)
        folder, name = self._place(source)
        del folder.seen[name]
        folder, name = self._place(target)
        folder.seen[name] = inode
        self._last = folder

    def remove(self, path: str) -> None:
        """Take a name away."""
        self._step(path)
        self._file(path)
        folder, name = self._place(path)
        del folder.seen[name]

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""
        self._step(path, needs_space=True)
        folder = self._folder(path)
        folder.durable = dict(folder.seen)

    def make_folder(self, path: str) -> None:
        """Make a folder unless it is there."""
        self._step(path, needs_space=True)
        folder, name = self._place(path)
        folder.seen.setdefault(name, Folder())

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        self._step(path)
        if self._folder(path).seen:
            raise OSError(errno.ENOTEMPTY, "not empty", path)
        folder, name = self._place(path)
        del folder.seen[name]

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(self._folder(path).seen)

    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder of this name."""
        try:
            folder, name = self._place(path)
        except FileNotFoundError:
            return False
        return name in folder.seen

    def size(self, path: str) -> int:
        """Return the bytes of a file; nobody asks this disk for more."""
        return len(self._file(path).seen)

    def _step(self, path: str, *, needs_space: bool = False) -> None:
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crash(f"before step {self.steps}, at {path}")
        if needs_space and (self.is_full or self.steps in self.full_at):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._folder(parent or _ROOT), name

    def _folder(self, path: str) -> Folder:
        folder = self._root
        for name in path.split("/") if path != _ROOT else ():
            found = folder.seen.get(name)
            if not isinstance(found, Folder):
                raise FileNotFoundError(errno.ENOENT, "no such folder", path)
            folder = found
        return folder

    def _file(self, path: str) -> Inode:
        folder, name = self._place(path)
        found = folder.seen.get(name)
        if not isinstance(found, Inode):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return found


def _survive(folder: Folder, kept: Kept, last: Folder | None) -> Folder:
    names_stay = kept in (Kept.NAMES, Kept.EVERYTHING) or (kept is Kept.LAST and folder is last)
    left: dict[str, Inode | Folder] = {}
    for name, found in (folder.seen if names_stay else folder.durable).items():
        if isinstance(found, Folder):
            left[name] = _survive(found, kept, last)
        else:
            bytes_left = found.seen if kept is Kept.EVERYTHING else found.durable
            left[name] = Inode(bytes_left, bytes_left)
    return Folder(left, dict(left))
