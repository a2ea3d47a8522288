"""How a container gets its files, and how its agent is spoken to: the seam in the driver.

``shared`` is for an engine that sees this node's files, by their own path (*mounts*) or in a
volume that this worker's own container has (*volumes*). ``stdio`` is for one that sees none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from miniworker.attached import Attached
from miniworker.creation import Ways
from miniworker.engine import Engine
from miniworker.engine_settings import Settings, Transport
from miniworker.sandbox import Plan
from miniworker.shared import Shared
from miniworker.stdio import Stdio

#: In the order in which they are tried.
TRANSPORTS: Final[tuple[Transport, ...]] = ("mounts", "volumes", "stdio")


class Way(Protocol):
    """One of them, for one container. All of it may raise as the engine does."""

    @property
    def can_wait(self) -> bool:
        """Return whether a container may be given its bundle later."""

    def given(self) -> Mapping[str, str]:
        """Return what a build has in its environment, by the paths that it sees."""

    def hand_over(self, user: tuple[int, int], /) -> None:
        """Let a build write its bundle; before the container is made."""

    def ways(self) -> Ways:
        """Return what the engine is asked for."""

    def fill(self, engine: Engine, container: str, user: tuple[int, int], /) -> None:
        """Put in what is needed; between the making and the start."""

    def connect(self, engine: Engine, container: str, /) -> Attached | None:
        """Connect before the start; None if the agent connects by itself."""

    def adopt(self, engine: Engine, container: str, plan: Plan, /) -> None:
        """Give a waiting container the bundle of this plan."""

    def collect(self, engine: Engine, container: str, /) -> None:
        """Bring home what a build made; nothing of it runs any more."""

    def close(self) -> None:
        """Remove what was there for this container alone; seal what it built."""


def way(plan: Plan, settings: Settings, path: str) -> Way:
    """Return what the settings say; ``path`` is the runtime's as seen inside."""
    return (
        Stdio(plan, settings, path)
        if settings.transport == "stdio"
        else Shared(plan, settings, path)
    )
