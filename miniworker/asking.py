"""What every driver of containers asks the engine, and how its containers are labelled."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Protocol

from miniworker import cgroups, complaints
from miniworker.engine import Engine, EngineAway, Image
from miniworker.engine_settings import Settings
from miniworker.sandbox import Plan
from miniworker.underway import Underway

#: An engine that is being restarted comes back within seconds: nobody need hear of it.
RIDE_OUT_S: Final = 5.0
RIDE_PAUSE_S: Final = 0.25
#: The label that says when nobody can be using a container any more: seconds since 1970.
EXPIRES: Final = "skep.expires"


class Owner(Protocol):
    """Whose the containers are, of the driver's settings."""

    @property
    def installation(self) -> str:
        """Return the installation's id."""

    @property
    def node(self) -> str:
        """Return the node's id."""

    @property
    def boot(self) -> str:
        """Return the id of its worker's life."""


def engine_of(settings: Settings) -> Engine:
    """Return the engine that makes containers for these settings, and notes what is asked."""
    return Engine(settings.engine, settings.version, underway=Underway(Path(settings.folder)))


def find_image(engine: Engine, name: str, architecture: str) -> Image:
    """Return what there is to know of an image that this engine can run.

    Raises:
        EngineRefused: it has none of that name.
        EngineAway: it does not answer, and has not for a while.
        NoSandbox: the image is for another machine.
    """
    image = _ask_for(engine, name)
    if architecture and image.architecture not in ("", architecture):
        raise complaints.for_another_machine(name, image.architecture, architecture)
    return image


def _ask_for(engine: Engine, name: str) -> Image:
    """Ask first for what changes nothing: it may be asked again while an engine starts."""
    limit = time.monotonic() + RIDE_OUT_S
    while True:
        try:
            return engine.image(name)
        except EngineAway:
            if time.monotonic() > limit:
                raise
            time.sleep(RIDE_PAUSE_S)


def find_kills(engine: Engine, version: str, container: str) -> cgroups.Kills | None:
    """Return the count of what the kernel killed for its memory in a running container."""
    found = cgroups.find(version, container)
    if found is None:
        found = cgroups.find_by_pid(version, engine.state(container).pid, container)
    return found


def labels(owner: Owner, plan: Plan) -> dict[str, str]:
    """Return whose a container is, as sweeping reads it; asked by the miniworker itself."""
    return {
        "skep": owner.installation,
        "skep.node": owner.node,
        "skep.boot": owner.boot,
        "skep.miniworker": plan.folder.name,
        "skep.parent": str(os.getppid()),
        "skep.function": plan.spec.key,
    }
