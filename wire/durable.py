"""Folders and names that a power cut does not take: what every room that keeps files needs."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it unless they are there; all of them durable.

    A file that was synced in a folder is lost all the same if the folder's own name is.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_names(folder.parent)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on its disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
