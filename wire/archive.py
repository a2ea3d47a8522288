"""Packages as files: whether an archive may be unpacked, and unpacking it.

The api checks an archive when it is uploaded, a worker when it unpacks it: both in the same
single pass, which reads every byte once in bounded memory. Its content decides its kind, not
its name. Names are bytes throughout, so that any encoding survives.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wire.entries import LEAVE_OUT, PIECE_BYTES, Entry, Kind, check_suffix, read, show, sniff
from wire.errors import SkepError, TooLarge, UnsafeArchive, UnsupportedArchive

_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


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


DEFAULT_LIMITS: Final = Limits()
#: What to do about an archive that no ordinary packer makes.
ORDINARY: Final = "pack the folder again with an ordinary packer: tar czf package.tar.gz *"
#: A drive with its root, a share, or the root of the current drive.
_WINDOWS_ABSOLUTE: Final = re.compile(rb"[A-Za-z]:([\\/]|$)|\\")


@dataclass(frozen=True, slots=True)
class Checked:
    """What an archive is and holds: the number of its files and links, and their bytes."""

    kind: Kind
    files: int
    bytes: int


def check(path: Path, originalname: str = "", limits: Limits = DEFAULT_LIMITS) -> Checked:
    """Read an archive to its end and say what it holds; nothing is written.

    Raises:
        UnsupportedArchive: it is no zip, tar or tar.gz, its name says that it is something
            else, or it is encrypted or damaged.
        UnsafeArchive: it holds something that must not be unpacked; the message names it.
        TooLarge: it unpacks to more files or bytes than may be.
    """
    with _explained(originalname or path.name):
        return _Pass(path, limits, None).run(originalname)


def unpack(path: Path, dest: Path, limits: Limits = DEFAULT_LIMITS) -> Checked:
    """Unpack an archive into ``dest``, a folder that is made here and must not exist yet.

    Every rule of ``check`` holds. Files get mode 644, or 755 if their owner might execute
    them. When this raises, what was written so far is left for the caller to remove.
    """
    with _explained(path.name):
        return _Pass(path, limits, _Writer(dest)).run("")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except SkepError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint or ORDINARY) from error
    except _DAMAGE as error:
        raise UnsupportedArchive(
            f"{name}: the archive is damaged or cut off ({str(error) or type(error).__name__})",
            hint="pack it again and upload the whole file",
        ) from error


class _Pass:
    """One way through an archive: every entry is judged, then written or dropped."""

    def __init__(self, path: Path, limits: Limits, writer: _Writer | None) -> None:
        self._path = path
        self._limits = limits
        self._writer = writer
        self._packed = path.stat().st_size
        self._tree = _Tree(limits)
        self._unpacked = 0
        self._bytes = 0

    def run(self, originalname: str) -> Checked:
        kind = sniff(self._path)
        check_suffix(originalname, kind)
        for entry in read(self._path, kind, self._limits.files, self._grew):
            self._take(entry, counted=kind != "zip")
        if not self._tree.files:
            raise UnsupportedArchive("the archive is empty", hint="it must hold the code")
        if self._writer:
            self._writer.write_links()
        return Checked(kind, self._tree.files, self._bytes)

    def _take(self, entry: Entry, *, counted: bool) -> None:
        path = self._tree.claim(entry)
        if entry.type == "file":
            self._copy(path, entry, counted=counted)
        elif self._writer and entry.type == "dir":
            self._writer.folder(path)
        elif self._writer and entry.type == "symlink":
            self._writer.symlink(path, entry.target)
        elif self._writer:
            self._writer.hardlink(path, self._tree.path(entry.target))

    def _copy(self, path: bytes, entry: Entry, *, counted: bool) -> None:
        out = self._writer.file(path, executable=entry.executable) if self._writer else None
        before = self._bytes
        with out or nullcontext(), entry.open() as content:
            while piece := content.read(PIECE_BYTES):
                self._bytes += len(piece)
                if not counted:
                    self._grew(len(piece))
                # Holes of a sparse file are in no stream, but on the disk.
                self._check(self._bytes)
                if out:
                    out.write(piece)
        if entry.size not in (None, self._bytes - before):
            raise UnsupportedArchive(
                f"{show(entry.name)} is of {self._bytes - before} bytes, not of {entry.size}",
                hint="the archive lies about a size: pack it again with an ordinary packer",
            )

    def _grew(self, count: int) -> None:
        self._unpacked += count
        self._check(self._unpacked)

    def _check(self, count: int) -> None:
        limits = self._limits
        if count > limits.total_bytes:
            raise TooLarge(
                f"it unpacks to more than {limits.total_bytes} bytes", hint=LEAVE_OUT
            )
        if count > max(limits.ratio_from_bytes, limits.ratio * self._packed):
            raise UnsafeArchive(
                f"it unpacks to more than {limits.ratio} times its size",
                hint="large files that are nearly empty are made better by the code itself",
            )


class _Tree:
    """The paths of an archive: each is one thing, and lies under folders alone."""

    def __init__(self, limits: Limits) -> None:
        self.files = 0
        self._limits = limits
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
        if entry.type == "symlink":
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


class _Writer:
    """Writes into a new folder; symbolic links come last, so that nothing passes one."""

    def __init__(self, dest: Path) -> None:
        dest.mkdir()
        dest.chmod(0o755)
        self._root = os.fsencode(dest) + b"/"
        self._links: list[tuple[bytes, bytes]] = []

    def folder(self, path: bytes) -> None:
        os.makedirs(self._root + path, mode=0o755, exist_ok=True)  # noqa: PTH103 (bytes)

    def file(self, path: bytes, *, executable: bool) -> BinaryIO:
        self.folder(path.rpartition(b"/")[0])
        mode = 0o755 if executable else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._root + path, flags, mode)
        # Not what the umask leaves of it: another user runs this.
        os.fchmod(fd, mode)
        return os.fdopen(fd, "wb")

    def hardlink(self, path: bytes, target: bytes) -> None:
        self.folder(path.rpartition(b"/")[0])
        os.link(self._root + target, self._root + path)

    def symlink(self, path: bytes, target: bytes) -> None:
        self._links.append((path, target))

    def write_links(self) -> None:
        for path, target in self._links:
            self.folder(path.rpartition(b"/")[0])
            os.symlink(target, self._root + path)  # noqa: PTH211 (bytes)
