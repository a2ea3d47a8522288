"""How often the kernel has killed in a container for its memory, read from its cgroup.

The engine tells it late and only of the first process; the kernel's own count is there at
once and counts every process, under cgroup v1 and v2.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: Where a container's cgroup is, by version of cgroup; {} stands for its id.
PLACES: Final = {
    "1": (
        "/sys/fs/cgroup/memory/docker/{}/memory.oom_control",
        "/sys/fs/cgroup/memory/system.slice/docker-{}.scope/memory.oom_control",
    ),
    "2": (
        "/sys/fs/cgroup/docker/{}/memory.events",
        "/sys/fs/cgroup/system.slice/docker-{}.scope/memory.events",
    ),
}
_BYTES: Final = 4096
_WORD: Final = b"oom_kill"


class Kills:
    """The count of one cgroup; it can be read while the cgroup exists."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Kills: {self._seen} seen>"

    def have_risen(self) -> bool | None:
        """Return whether there are more than when last asked; None if nobody can say."""
        try:
            count = parse(os.pread(self._fd, _BYTES, 0))
        except OSError:
            # The container has ended, and its cgroup with it.
            return None
        before, self._seen = self._seen, max(self._seen, count)
        return count > before

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def find(version: str, container: str) -> Kills | None:
    """Return the count of a running container; None where this process cannot see it."""
    for place in PLACES.get(version, ()):
        try:
            return Kills(os.open(place.format(container), os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
    return None


def find_by_pid(version: str, pid: int, container: str) -> Kills | None:
    """Return the count of a container's cgroup by its first process, if that is of this host.

    Where the engine is another host, or this process in a container, the number is another's.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    place = file_of(version, lines)
    if container not in place:
        return None
    try:
        return Kills(os.open(place, os.O_RDONLY | os.O_CLOEXEC)) if place else None
    except OSError:
        return None


def file_of(version: str, lines: list[str]) -> str:
    """Return the file that counts, told from the lines of /proc/PID/cgroup."""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if version == "1" and "memory" in controllers.split(","):
            return f"/sys/fs/cgroup/memory{path}/memory.oom_control"
        if version == "2" and not controllers:
            return f"/sys/fs/cgroup{path}/memory.events"
    return ""


def parse(content: bytes) -> int:
    """Return the number behind ``oom_kill``; 0 on a kernel that does not count."""
    for line in content.splitlines():
        name, _, number = line.partition(b" ")
        if name == _WORD:
            return int(number)
    return 0
