"""Notices what changes in a folder, by looking: what is packed is exactly what is watched.

Polling rather than the kernel's notices: it also sees network mounts and folders shared with
a virtual machine, needs no library, and a look at a function's folder takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.settings import FILE
from cli.tree import Entry, entries
from cli.words import plural

Marks = Mapping[str, tuple[int, ...]]
#: Of so many changed files the names are said.
_NAMED: Final = 3


def differences(before: Marks, after: Marks) -> list[str]:
    """Return what changed between two looks: ``main.py``, new ``+b.py``, gone ``-c.py``."""
    return [
        *(path for path in after if path in before and after[path] != before[path]),
        *(f"+{path}" for path in after if path not in before),
        *(f"-{path}" for path in before if path not in after),
    ]


def summary(changed: list[str]) -> str:
    """Say compactly what changed."""
    if len(changed) <= _NAMED:
        return ", ".join(changed)
    return f"{', '.join(changed[:_NAMED])} and {plural(len(changed) - _NAMED, 'file')} more"


class Watcher:
    """Looks at a folder; a change counts once the folder has been the same for two looks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: list[Entry] = []
        self._taken: Marks = {}
        self._last: Marks = {}

    def look(self) -> list[str]:
        """Return what changed since it was last taken, if it has settled; else nothing.

        Raises:
            BadFolder: something in the folder cannot be packed.
            BadIgnoreFile: an ignore file cannot be read.
        """
        self.found = entries(self._folder)
        now = {entry.path: entry.mark for entry in self.found} | self._settings()
        has_settled, self._last = now == self._last, now
        return differences(self._taken, now) if has_settled else []

    def take(self) -> None:
        """Take what was last seen as known."""
        self._taken = self._last

    def _settings(self) -> dict[str, tuple[int, ...]]:
        """Return the mark of ``skep.json``, which is not packed and still counts."""
        try:
            about = (self._folder / FILE).stat()
        except OSError:
            return {}
        return {FILE: (about.st_mtime_ns, about.st_size, about.st_ino)}
