"""What the processes of one installation cost: CPU by room, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOMS: Final = ("dbnode", "api", "worker", "miniworker")
#: At rest is who spends less than this share of a processor between two looks: all beat once a
#: second. After the limit what is measured is measured all the same.
REST_SHARE: Final = 0.1
REST_LOOK_S: Final = 1.0
REST_LIMIT_S: Final = 20.0
_TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")


def rooms(folder: str) -> dict[int, str]:
    """Return the processes of the rooms below ``skep up --data folder``, each with its room."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            _read(entry, folder, {}, found, {})
    return {pid: room for pid, room in found.items() if room in ROOMS}


def parent(pid: int) -> int:
    """Return the parent of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu_ms(folder: str) -> dict[tuple[str, int], float]:
    """Return the CPU time so far of each process below ``skep up --data folder``, by its room.

    A process is of this installation if its folder is below that, or a parent of it is; one
    of those that is no room is an ``agent``. Of one that has ended nobody can tell any more.
    """
    found: dict[tuple[str, int], float] = {}
    parents: dict[int, int] = {}
    known: dict[int, str] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            _read(entry, folder, parents, known, times)
    for pid, time_ms in times.items():
        room = known.get(pid) or ("agent" if _is_below(pid, parents, known) else "")
        if room:
            found[room, pid] = time_ms
    return found


def _read(
    entry: Path,
    folder: str,
    parents: dict[int, int],
    known: dict[int, str],
    times: dict[int, float],
) -> None:
    try:
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        where = str((entry / "cwd").readlink())
    except OSError:
        return
    pid = int(entry.name)
    parents[pid] = int(fields[1])
    times[pid] = (int(fields[11]) + int(fields[12])) * _TICK_MS
    room = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if room in ROOMS and where.startswith(folder):
        known[pid] = room
    elif "agent.sock" in " ".join(words):
        # In a container its parent is the engine's, not ours.
        known[pid] = "agent"


def _is_below(pid: int, parents: dict[int, int], known: dict[int, str]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid in known:
            return True
    return False


def until_at_rest(folder: str) -> None:
    """Wait until the processes of an installation do nothing but what they always do."""
    end = time.monotonic() + REST_LIMIT_S
    before = sum(cpu_ms(folder).values())
    while time.monotonic() < end:
        time.sleep(REST_LOOK_S)
        now = sum(cpu_ms(folder).values())
        if now - before <= REST_SHARE * 1000 * REST_LOOK_S:
            return
        before = now


def per_call(
    before: Mapping[tuple[str, int], float], after: Mapping[tuple[str, int], float], calls: int
) -> dict[str, float]:
    """Return the milliseconds of CPU that each room spent on one call."""
    spent = dict.fromkeys((*ROOMS, "agent"), 0.0)
    for (room, pid), time_ms in after.items():
        spent[room] += (time_ms - before.get((room, pid), 0.0)) / calls
    return {room: round(each, 4) for room, each in spent.items()}
