"""What memory the processes of one installation have, from /proc."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks import cost

_KB: Final = 1024
_MB: Final = 1e6


def control_mb(folder: str) -> float:
    """Return the MB of api, DB node and worker below a folder, shared pages by their share."""
    return sum(
        proportional_mb(pid)
        for pid, room in cost.rooms(folder).items()
        if room in ("api", "dbnode", "worker")
    )


def room_mb(folder: str, room: str) -> float:
    """Return the MB of one room below a folder, shared pages by their share."""
    return sum(proportional_mb(pid) for pid, name in cost.rooms(folder).items() if name == room)


def proportional_mb(pid: int) -> float:
    """Return a process's proportional set size (PSS) in MB; 0 if it is gone."""
    return _sum(pid, "Pss:")


def private_mb(pid: int) -> float:
    """Return the MB that nobody shares with a process: what ends with it."""
    return _sum(pid, "Private_Clean:", "Private_Dirty:")


def miniworkers(folder: str) -> list[int]:
    """Return the processes that own a sandbox: those that the zygote forked."""
    rooms = cost.rooms(folder)
    minis = {pid for pid, room in rooms.items() if room == "miniworker"}
    return [pid for pid in minis if cost.parent(pid) in minis]


def _sum(pid: int, *names: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0
    fields = dict(line.split(maxsplit=1) for line in lines)
    return sum(int(fields[name].split()[0]) for name in names if name in fields) * _KB / _MB
