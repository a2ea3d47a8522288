"""The memory that this worker may use, as the kernel tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker.pressure import Reading

#: For each version of cgroups: folder, limit, usage, and what of that can be had back.
_CGROUPS: Final = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def read(root: Path = Path("/")) -> Reading:
    """Return what is left; of machine and cgroup the one that has the smaller part left."""
    found = list(_limits(root))
    if not found:
        return Reading(1, 1)
    available, total = min(found, key=lambda one: one[0] / one[1])
    return Reading(available, total, _stalled(root))


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield (available, total) of all that may limit this process."""
    machine = 1 << 62
    with suppress(OSError, AttributeError):
        text = (root / "proc/meminfo").read_text()
        machine, available = _kib(text, "MemTotal"), _kib(text, "MemAvailable")
        yield available, machine
    for place in _places(root):
        for folder, limit, usage, cache in _CGROUPS:
            here = root / folder / place
            with suppress(OSError, ValueError, AttributeError):
                most = int((here / limit).read_text())
                if 0 < most < machine:
                    used = int((here / usage).read_text())
                    used -= _number((here / "memory.stat").read_text(), cache)
                    yield max(0, most - used), most


def _places(root: Path) -> Iterator[str]:
    """Yield the paths of this process's cgroups; the root is its own in a container."""
    yield ""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if path != "/" and (not controllers or "memory" in controllers.split(",")):
                yield path.lstrip("/")


def _stalled(root: Path) -> float:
    with suppress(OSError, AttributeError):
        text = (root / "proc/pressure/memory").read_text()
        return float(_match(r"^some avg10=([\d.]+)", text))
    return 0.0


def _kib(text: str, name: str) -> int:
    return int(_match(rf"^{name}:\s+(\d+) kB$", text)) << 10


def _number(text: str, name: str) -> int:
    return int(_match(rf"^{name} (\d+)$", text))


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise AttributeError(pattern)
    return found[1]
