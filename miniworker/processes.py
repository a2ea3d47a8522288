"""Processes by their pids: who descends from whom, and how to leave none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from pathlib import Path


def descendants(pid: int, spared: Collection[int] = ()) -> set[int]:
    """Return the pids of all that descend from a process, the ended but unreaped too.

    Those spared are left out with all that descends from them. One look at /proc decides
    both: with two, what a spared process forks between them would count as nobody's.
    """
    by_parent: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (above := parent(int(entry.name))) is not None:
            by_parent.setdefault(above, []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = [child for child in by_parent.get(todo.pop(), []) if child not in spared]
        found.update(new)
        todo.extend(new)
    return found


def parent(pid: int) -> int | None:
    """Return the pid of a process's parent; None if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from its end: state, parent.
    return int(stat.rpartition(")")[2].split()[1])


def end_orphans(spared: Collection[int] = ()) -> None:
    """Kill and reap every descendant, until none is left but those spared and theirs.

    Only for a process that adopts orphans: there nothing can slip away by losing its
    parent, so that looking again until nothing is found is enough.
    """
    while doomed := descendants(os.getpid(), spared):
        for pid in doomed:
            kill(pid)
        for pid in doomed:
            _reap(pid)


def kill(pid: int) -> None:
    """Send SIGKILL; it is fine if the process has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
