"""A Docker engine for an installation under test, and a witness that its containers reach.

The engine has a network namespace of its own, which outlives it, with a bridge in it; the
witness listens at the bridge's address, in there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests import engine
from tests.apart import net
from tests.conftest import children, eventually
from tests.faults.places import listening
from tests.faults.witness import Witness
from tests.miniworker.private_engine import PrivateEngine

#: What an engine gives its bridge, where nothing else has it.
BRIDGE: Final = "172.17.0.1"


class Dock(PrivateEngine):
    """An engine with a bridge, in a namespace of that name."""

    #: Only what is in its own namespace can be broken by it.
    network = ("--iptables=false", "--ip-masq=false")

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder)
        self.within = ("nsenter", f"--net=/run/netns/{namespace}")
        self._namespace = namespace

    def witness(self) -> Witness:
        """Return a witness that containers find."""
        return Witness(listening(self._namespace, BRIDGE))

    def containers(self) -> list[str]:
        """Return the containers that run."""
        return self.docker("ps", "--quiet").split()

    def assert_empty(self) -> None:
        """Check that no container is left, soon."""
        eventually(lambda: not self.docker("ps", "--all", "--quiet"), 30, "containers left")

    def processes(self) -> set[int]:
        """Return those of the engine: they stay when an installation goes."""
        return children()


@contextmanager
def docked(folder: Path) -> Iterator[Dock]:
    """Run an engine for the block that has the image of the runtime."""
    net.require()
    image = engine.python_image()
    namespace = f"skep-dock-{os.getpid()}"
    net.ip("netns", "add", namespace)
    before = os.environ.get("DOCKER_HOST")
    try:
        net.ip("-n", namespace, "link", "set", "lo", "up")
        (folder / "e").mkdir()
        with Dock(folder / "e", namespace) as dock:
            dock.load(image)
            dock.docker("tag", image, "pythonruntime")
            os.environ["DOCKER_HOST"] = dock.address
            yield dock
    finally:
        os.environ.pop("DOCKER_HOST", None)
        if before is not None:
            os.environ["DOCKER_HOST"] = before
        net.ip("netns", "del", namespace)
