"""What an archive becomes, entry by entry: which paths it may have, and writing them.

An archive is judged by itself, whatever is on the disk: each path is one thing, and lies under
folders alone. Names are bytes throughout, so that any encoding survives.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wire.entries import LEAVE_OUT, Entry, show
from wire.errors import TooLarge, UnsafeArchive

#: A drive with its root, a share, or the root of the current drive.
_WINDOWS_ABSOLUTE: Final = re.compile(rb"[A-Za-z]:([\\/]|$)|\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an archive may unpack to."""

    total_bytes: int = 512 << 20
    files: int = 20_000
    depth: int = 32
    path_bytes: int = 1024
    #: Unpacked bytes for each packed one, once there are more than ``ratio_from_bytes``.
    ratio: int = 200
    ratio_from_bytes: int = 16 << 20


class Tree:
    """The paths of an archive: each is one thing, and lies under folders alone."""

    def __init__(self, limits: Limits, *, links_lead_out: bool = False) -> None:
        """``links_lead_out`` allows links to anywhere: nobody here follows them."""
        self.files = 0
        self._limits = limits
        self._links_lead_out = links_lead_out
        self._known: dict[bytes, str] = {}

    def claim(self, entry: Entry) -> bytes:
        """Return the path of a lawful entry relative to the root (empty: the root itself)."""
        path = self.path(entry.name)
        if not path:
            if entry.type != "dir":
                raise UnsafeArchive(f"{show(entry.name)} replaces the folder itself")
            return path
        self._claim_folders(path, entry.name)
        if entry.type == "dir":
            self._claim_dir(path, entry.name)
        else:
            self._claim_file(path, entry)
        return path

    def path(self, name: bytes) -> bytes:
        """Return a name in its one form; raise if it may not stand for a path."""
        shown = show(name)
        if name.startswith(b"/") or _WINDOWS_ABSOLUTE.match(name):
            raise UnsafeArchive(f"{shown} is an absolute path", hint="pack relative paths")
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b"\0" in name:
            raise UnsafeArchive(f"{shown} has a NUL in its name")
        # A backslash may be part of a name here; where it is none, it leads nowhere either.
        if b".." in name.replace(b"\\", b"/").split(b"/"):
            raise UnsafeArchive(f"{shown} leads out of the package", hint="pack without ..")
        if len(parts) > self._limits.depth:
            raise UnsafeArchive(
                f"{shown} lies deeper than {self._limits.depth} folders",
                hint="pack the code's own folders only",
            )
        if len(name) > self._limits.path_bytes or any(len(part) > 255 for part in parts):
            raise UnsafeArchive(f"the name {shown} is too long", hint="give it a shorter one")
        return b"/".join(parts)

    def _claim_folders(self, path: bytes, name: bytes) -> None:
        at = path.find(b"/")
        while at > 0:
            self._claim_dir(path[:at], name)
            at = path.find(b"/", at + 1)

    def _claim_dir(self, path: bytes, name: bytes) -> None:
        before = self._known.setdefault(path, "dir")
        if before != "dir":
            raise UnsafeArchive(f"{show(name)} needs a folder where there is a {before}")
        if len(self._known) > 2 * self._limits.files:
            raise TooLarge(f"it holds more than {self._limits.files} files", hint=LEAVE_OUT)

    def _claim_file(self, path: bytes, entry: Entry) -> None:
        if path in self._known:
            raise UnsafeArchive(f"{show(entry.name)} is in it twice")
        if entry.type == "symlink" and not self._links_lead_out:
            _check_link(path, entry.target)
        elif entry.type == "hardlink" and self._known.get(self.path(entry.target)) != "file":
            raise UnsafeArchive(f"{show(entry.name)} links to no file that came before it")
        self._known[path] = "link" if entry.type == "symlink" else "file"
        self.files += 1
        if self.files > self._limits.files:
            raise TooLarge(f"it holds more than {self._limits.files} files", hint=LEAVE_OUT)


def _check_link(path: bytes, target: bytes) -> None:
    """Allow ``..`` at the beginning alone: what it leads up through are true folders."""
    steps = [step for step in target.split(b"/") if step not in (b"", b".")]
    up = next((i for i, step in enumerate(steps) if step != b".."), len(steps))
    inside = up <= path.count(b"/") and b".." not in steps[up:]
    if not target or len(target) > 1024 or target.startswith(b"/") or b"\0" in target:
        inside = False
    if not inside:
        raise UnsafeArchive(
            f"the link {show(path)} leads to {show(target)}",
            hint="a link may only point into the package, with .. at its beginning alone",
        )


class Writer:
    """Writes into a new folder; symbolic links come last, so that nothing passes one."""

    def __init__(self, dest: Path) -> None:
        dest.mkdir()
        dest.chmod(0o755)
        self._root = os.fsencode(dest) + b"/"
        self._links: list[tuple[bytes, bytes]] = []

    def folder(self, path: bytes) -> None:
        """Make a folder, and those that it lies in."""
        os.makedirs(self._root + path, mode=0o755, exist_ok=True)  # noqa: PTH103 (bytes)

    def file(self, path: bytes, *, executable: bool) -> BinaryIO:
        """Open a new file to be written."""
        self.folder(path.rpartition(b"/")[0])
        mode = 0o755 if executable else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._root + path, flags, mode)
        # Not what the umask leaves of it: another user runs this.
        os.fchmod(fd, mode)
        return os.fdopen(fd, "wb")

    def hardlink(self, path: bytes, target: bytes) -> None:
        """Give a file that was written another name."""
        self.folder(path.rpartition(b"/")[0])
        os.link(self._root + target, self._root + path)

    def symlink(self, path: bytes, target: bytes) -> None:
        """Note a link, to be made by ``write_links``."""
        self._links.append((path, target))

    def write_links(self) -> None:
        """Make the links; nothing else may be written after this."""
        for path, target in self._links:
            self.folder(path.rpartition(b"/")[0])
            os.symlink(target, self._root + path)  # noqa: PTH211 (bytes)
