"""Whose a bundle's files are: the sandbox's while it builds, then nobody's to change."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def give(top: Path, uid: int, gid: int, *, seal: bool = False) -> None:
    """Change the owner of a tree without following links; sealed, nobody can write it."""
    _give_one(top, uid, gid, seal=seal)
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            _give_one(Path(folder, name), uid, gid, seal=seal)


def _give_one(path: Path, uid: int, gid: int, *, seal: bool) -> None:
    mode = path.lstat().st_mode
    if seal and not stat.S_ISDIR(mode) and not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        path.unlink()
        return
    os.lchown(path, uid, gid)
    if seal and not stat.S_ISLNK(mode):
        path.chmod(0o755 if stat.S_ISDIR(mode) or mode & 0o100 else 0o644)
