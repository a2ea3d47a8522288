"""Which driver a node has: decided once, when its worker starts, and said plainly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from miniworker.engine import EngineAway, EngineRefused
from miniworker.engine_probe import Identity
from miniworker.engine_probe import probe as probe_engine
from miniworker.probe import probe as probe_host
from miniworker.proving import Wanted
from miniworker.sandbox import NoSandbox
from wire.errors import BadRequest

_NOBODY: Final = Identity(installation="none", node="none", boot="none", bundles="")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the finder is told beside the driver."""

    level: str
    #: Folders of runtimes beside skep's own.
    runtimes: tuple[Path, ...]
    network: str
    identity: Identity
    transport: Wanted = "auto"

    @classmethod
    def of(
        cls, level: str, runtimes: str, network: str, identity: str, transport: Wanted
    ) -> Self:
        """Read the command line's words."""
        given = msgspec.json.decode(identity, type=dict[str, str])
        whole = msgspec.to_builtins(_NOBODY) | given
        more = tuple(Path(path) for path in runtimes.split(":") if path)
        return cls(level, more, network, msgspec.convert(whole, Identity), transport)


def find(
    folder: Path, kind: Literal["auto", "docker", "process"], wish: Wish
) -> dict[str, Any]:
    """Return the driver, what it confines, and the settings for Spawn.

    Raises:
        SkepError: what was asked for is not to be had.
    """
    if kind == "process":
        return probe_host(folder, wish.level, wish.runtimes)
    try:
        return probe_engine(folder, wish.identity, wish.network, wish.runtimes, wish.transport)
    except (EngineAway, EngineRefused, NoSandbox) as error:
        if kind == "docker":
            raise BadRequest(error.message, hint=error.hint) from error
        found = probe_host(folder, wish.level, wish.runtimes)
        # Who expected containers shall read why there are none.
        return found | {"isolation": f"{found['isolation']} ({error.message})"}
