"""What a build left in its container, brought to this node: a tar by a stranger's hand.

It is read forward once, in bounded memory, and written beside the bundle that it then
replaces. What it may hold is more than a package may: links to anywhere, which nobody on the
node follows, and as much as installers make. Sockets, pipes and devices are left out.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, cast

from wire.entries import PIECE_BYTES, Entry, show, tar_entries
from wire.errors import SkepError, TooLarge, UnsafeArchive
from wire.unpacked import Limits, Tree, Writer

#: Of all that a package and its dependencies are.
LIMITS: Final = Limits(total_bytes=8 << 30, files=500_000, depth=128, path_bytes=4096)
_HALF: Final = ".half"


def replace_by(bundle: Path, pieces: Iterator[bytes], limits: Limits = LIMITS) -> None:
    """Make a folder what the tar of a folder says, whatever that was called.

    Raises:
        UnsafeArchive: it holds something that no build makes.
        TooLarge: it is more than may be.
        OSError: it cannot be written; the disk may be full.
    """
    half = bundle.with_name(bundle.name + _HALF)
    shutil.rmtree(half, ignore_errors=True)
    try:
        _Collector(half, limits).run(_Stream(pieces))
        shutil.rmtree(bundle)
        half.rename(bundle)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise UnsafeArchive(f"what the engine gave is damaged: {error}") from error
    except SkepError as error:
        raise type(error)(f"what was installed: {error.message}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


class _Collector:
    def __init__(self, place: Path, limits: Limits) -> None:
        self._root = os.fsencode(place) + b"/"
        self._tree = Tree(limits, links_lead_out=True)
        self._writer = Writer(place)
        self._limits = limits
        self._read = 0
        #: What the folder is called in the tar: its first entry.
        self._top = b""

    def run(self, stream: _Stream) -> None:
        entries = tar_entries(cast("IO[bytes]", stream), self._grew, special="skip")
        for entry in entries:
            if not self._top:
                self._begin(entry)
            self._take(self._inside(entry))
        self._writer.write_links()

    def _begin(self, entry: Entry) -> None:
        self._top = entry.name.strip(b"/")
        if entry.type != "dir" or not self._top:
            raise UnsafeArchive(f"{show(entry.name)} is no folder any more")

    def _inside(self, entry: Entry) -> Entry:
        target = self._without_top(entry.target) if entry.type == "hardlink" else entry.target
        return replace(entry, name=self._without_top(entry.name), target=target)

    def _without_top(self, name: bytes) -> bytes:
        path = name.strip(b"/")
        if path == self._top:
            return b"."
        if not path.startswith(self._top + b"/"):
            raise UnsafeArchive(f"{show(name)} lies elsewhere")
        return path[len(self._top) + 1 :]

    def _take(self, entry: Entry) -> None:
        path = self._tree.claim(entry)
        match entry.type:
            case "dir":
                self._writer.folder(path)
            case "symlink":
                self._writer.symlink(path, entry.target)
            case "hardlink":
                self._writer.hardlink(path, self._tree.path(entry.target))
            case "file":
                self._copy(path, entry)

    def _copy(self, path: bytes, entry: Entry) -> None:
        out = self._writer.file(path, executable=entry.executable)
        with out, entry.open() as content:
            while piece := content.read(PIECE_BYTES):
                out.write(piece)
        if entry.changed_at is not None:
            # What an interpreter compiled is for a file of that time.
            os.utime(self._root + path, (entry.changed_at, entry.changed_at))

    def _grew(self, count: int) -> None:
        self._read += count
        if self._read > self._limits.total_bytes:
            raise TooLarge(f"it is more than {self._limits.total_bytes} bytes")


class _Stream:
    """Pieces as a file that is read forward."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end alone."""
        taken = [self._take(size)]
        left = size - len(taken[0])
        while left and (piece := next(self._pieces, b"")):
            self._held = memoryview(piece)
            taken.append(self._take(left))
            left -= len(taken[-1])
        return b"".join(taken)

    def _take(self, size: int) -> bytes:
        taken, self._held = bytes(self._held[:size]), self._held[size:]
        return taken
