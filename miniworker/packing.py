"""Files of this node as a tar for a container: whole trees, whose they will be, in pieces.

Nothing is followed and nothing is held: a bundle may be large. Modes are those that a sealed
bundle has, whatever they are on the disk.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 256 << 10
ROOT: Final = (0, 0)
#: Two blocks of zeros end a tar.
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A file or a folder, what it is to be called, and whose it will be."""

    source: Path
    #: Relative to where the tar is unpacked.
    target: str
    owner: tuple[int, int] = ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder that is there for what others put into it."""

    target: str
    mode: int = 0o755
    owner: tuple[int, int] = ROOT


def pack(parts: Iterable[Tree | Folder]) -> Iterator[bytes]:
    """Return the pieces of a tar."""
    for part in parts:
        if isinstance(part, Folder):
            yield _folder(part.target, part.mode, part.owner)
        else:
            yield from _tree(part)
    yield _END


def _tree(tree: Tree) -> Iterator[bytes]:
    yield from _one(tree.source, tree.target, tree.owner)
    if tree.source.is_symlink():
        return
    for folder, folders, files in os.walk(tree.source):
        inside = os.path.relpath(folder, tree.source)
        for name in (*folders, *files):
            target = os.path.normpath(f"{tree.target}/{inside}/{name}")
            yield from _one(Path(folder, name), target, tree.owner)


def _one(path: Path, target: str, owner: tuple[int, int]) -> Iterator[bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        yield _folder(target, 0o755, owner)
    elif stat.S_ISLNK(mode):
        header = _header(target, tarfile.SYMTYPE, 0o777, owner)
        header.linkname = str(path.readlink())
        yield _packed(header)
    elif stat.S_ISREG(mode):
        yield from _file(path, target, owner)


def _folder(target: str, mode: int, owner: tuple[int, int]) -> bytes:
    return _packed(_header(target, tarfile.DIRTYPE, mode, owner))


def _file(path: Path, target: str, owner: tuple[int, int]) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        mode = 0o755 if found.st_mode & 0o100 else 0o644
        header = _header(target, tarfile.REGTYPE, mode, owner)
        # What an interpreter compiled is for a file of that time.
        header.size, header.mtime = found.st_size, int(found.st_mtime)
        yield _packed(header)
        left = found.st_size
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
    if left:
        raise OSError(f"{path} became shorter while it was read")
    yield bytes(-found.st_size % tarfile.BLOCKSIZE)


def _header(target: str, kind: bytes, mode: int, owner: tuple[int, int]) -> tarfile.TarInfo:
    header = tarfile.TarInfo(target.lstrip("/"))
    header.type, header.mode = kind, mode
    header.uid, header.gid = owner
    return header


def _packed(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
