"""Folders of bundles as files: read from, linked into each other, measured."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Final

#: A requirement file is text that a person wrote.
MAX_FILE_BYTES: Final = 1 << 20
_libc: Final = ctypes.CDLL(None, use_errno=True)


def read_inside(root: Path, name: str) -> bytes | None:
    """Return a file's content; None unless it is a plain file of moderate size in ``root``."""
    path = Path(root, name)
    try:
        real = path.resolve(strict=True)
        inside = real.is_file() and real.is_relative_to(root.resolve())
        if not inside or real.stat().st_size > MAX_FILE_BYTES:
            return None
        return real.read_bytes()
    except (OSError, RuntimeError):
        return None


def write_files(root: Path, files: tuple[tuple[str, bytes], ...]) -> None:
    """Make a new folder that holds these files and no others."""
    root.mkdir()
    root.chmod(0o755)
    for name, content in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def link_tree(source: Path, target: Path) -> None:
    """Make ``target`` a folder of the same files: the folders are new, the files shared.

    Both are sealed, so neither can be changed through the other; each may be removed alone.
    No link is followed, the top itself included: an installer may have made it lead anywhere.
    """
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # A file system may allow no more links to a file, or none at all.
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def sync(folder: Path) -> None:
    """Wait until all that was written on the file system of a folder is on its disk.

    Raises:
        OSError: it cannot be written there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(fd)


def tree_bytes(root: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for folder, _, files in os.walk(root):
        total += sum(Path(folder, name).lstat().st_size for name in files)
    return total
