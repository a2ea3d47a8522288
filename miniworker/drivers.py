"""The drivers by name. What one needs is imported when it is asked for: most nodes use one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from miniworker.sandbox import Driver

Name = Literal["docker", "process", "fake"]


def driver(name: Name) -> Driver:
    """Return the driver of this name; the zygote loads it, so that its forks share it."""
    if name == "docker":
        from miniworker.container import ContainerSandbox  # noqa: PLC0415 - loads an HTTP stack

        return ContainerSandbox
    if name == "process":
        from miniworker.confined import ConfinedSandbox  # noqa: PLC0415 - as above

        return ConfinedSandbox
    from miniworker.fake import FakeSandbox  # noqa: PLC0415 - for tests alone

    return FakeSandbox


def sweep(
    name: Name,
    settings: Mapping[str, str],
    parent: int,
    dead: Collection[str] = (),
    patience_s: float = 0,
) -> None:
    """Remove what killed miniworkers left that is more than processes and folders."""
    if name == "docker":
        from miniworker.sweeping import sweep as remove  # noqa: PLC0415 - as above

        remove(settings, parent, dead, patience_s)
