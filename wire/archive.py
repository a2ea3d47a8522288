"""Packages as files: whether an archive may be unpacked, and unpacking it.

The api checks an archive when it is uploaded, a worker when it unpacks it: both in the same
single pass, which reads every byte once in bounded memory. Its content decides its kind, not
its name. Names are bytes throughout, so that any encoding survives.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire.entries import LEAVE_OUT, PIECE_BYTES, Entry, Kind, check_suffix, read, show, sniff
from wire.errors import SkepError, TooLarge, UnsafeArchive, UnsupportedArchive
from wire.unpacked import Limits, Tree, Writer

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


DEFAULT_LIMITS: Final = Limits()
#: What to do about an archive that no ordinary packer makes.
ORDINARY: Final = "pack the folder again with an ordinary packer: tar czf package.tar.gz *"


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
        return _Pass(path, limits, Writer(dest)).run("")


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

    def __init__(self, path: Path, limits: Limits, writer: Writer | None) -> None:
        self._path = path
        self._limits = limits
        self._writer = writer
        self._packed = path.stat().st_size
        self._tree = Tree(limits)
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
