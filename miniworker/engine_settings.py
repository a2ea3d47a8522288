"""What the probe of an engine found, as it travels in Spawn.settings: all are strings."""

from __future__ import annotations

from typing import Literal

import msgspec

#: How a container gets its files, and how its agent is spoken to (docs/architecture.md).
Transport = Literal["mounts", "volumes", "stdio"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of one worker, for one life of it."""

    #: Where the engine is; empty for DOCKER_HOST.
    engine: str = ""
    version: str = "1.41"
    architecture: str = ""
    cgroup: str = "1"
    #: Whose the containers are, by label.
    installation: str = "none"
    node: str = "none"
    boot: str = "none"
    #: The folder of this driver on the node: agents, and what is known of images.
    folder: str
    #: The folder of all bundles; empty to show each sandbox its own alone.
    bundles: str = ""
    network: str = "bridge"
    transport: Transport = "mounts"
    #: A file with credentials for registries, as docker login writes it; empty: the usual one.
    registry_config: str = ""
    #: JSON: where this worker's folders are on the engine's host, if it runs in a container.
    mounts: str = "{}"
