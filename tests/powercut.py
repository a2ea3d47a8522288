"""What a power cut leaves of real files: the bytes and the names that were synced, no others.

While it records, each sync of a file notes its bytes, and each sync of a folder its names.
``left`` then makes the folder that the next start would find had the machine stopped after the
n-th sync, or at the end: a file whose name is durable and whose bytes are not is empty.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

#: The names in folders (with the inode, and whether that is a folder), and the bytes of files,
#: by inode.
Names = dict[int, dict[str, tuple[int, bool]]]
Bytes = dict[int, bytes]


@dataclass
class Cuts:
    """What was durable after each sync."""

    root: Path
    names: Names
    contents: Bytes
    #: The states before the first sync and after each.
    states: list[tuple[Names, Bytes]] = field(default_factory=list)

    def note(self, fd: int) -> None:
        """Note what a sync has made durable."""
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self.names = self.names | {status.st_ino: _names(Path(f"/proc/self/fd/{fd}"))}
        else:
            data = Path(f"/proc/self/fd/{fd}").read_bytes()
            self.contents = self.contents | {status.st_ino: data}
        self.states.append((self.names, self.contents))

    def left(self, target: Path, after: int = -1) -> Path:
        """Make the folder that a power cut leaves after so many syncs; return it."""
        names, contents = self.states[after]
        _make(target, self.root.stat().st_ino, names, contents)
        return target


def _names(folder: Path) -> dict[str, tuple[int, bool]]:
    return {each.name: (each.lstat().st_ino, each.is_dir()) for each in folder.iterdir()}


def _make(target: Path, inode: int, names: Names, contents: Bytes) -> None:
    target.mkdir()
    for name, (child, is_folder) in names.get(inode, {}).items():
        if is_folder:
            _make(target / name, child, names, contents)
        else:
            (target / name).write_bytes(contents.get(child, b""))


@contextmanager
def recorded(root: Path) -> Iterator[Cuts]:
    """Record the syncs of this process; what is below ``root`` at the beginning is durable."""
    cuts = Cuts(root, {}, {})
    for folder, _, files in os.walk(root):
        cuts.names[Path(folder).stat().st_ino] = _names(Path(folder))
        for path in (Path(folder, name) for name in files):
            cuts.contents[path.stat().st_ino] = path.read_bytes()
    cuts.states.append((cuts.names, cuts.contents))

    def noting(sync: Callable[[int], None]) -> Callable[[Any], None]:
        def synced(file: Any) -> None:
            fd = file if isinstance(file, int) else file.fileno()
            sync(fd)
            cuts.note(fd)

        return synced

    with patch("os.fsync", noting(os.fsync)), patch("os.fdatasync", noting(os.fdatasync)):
        yield cuts
