"""Removes the containers that miniworkers left which were killed, and never anybody else's.

Only those of this installation and node, and only while the worker holds its node's lock:
nobody else can be using them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import msgspec

from miniworker.container import Settings
from miniworker.engine import Engine, EngineAway, EngineRefused

log = logging.getLogger(__name__)


def sweep(settings: Mapping[str, str], parent: int, dead: Collection[str] = ()) -> int:
    """Remove what was left by others than the zygote ``parent``, and by the dead of its own.

    ``parent`` 0 is no zygote: then everything of this node goes. Return how many went.
    """
    known = msgspec.convert(dict(settings), Settings)
    removed = 0
    try:
        engine = Engine(known.engine, known.version)
        own = {"skep": known.installation, "skep.node": known.node}
        for container, labels in engine.containers(own).items():
            if is_left(labels, known.boot, parent, dead):
                engine.remove(container)
                removed += 1
        engine.close()
    except (EngineAway, EngineRefused) as error:
        log.warning("containers may be left behind: %s", error.message)
    return removed


def is_left(labels: Mapping[str, str], boot: str, parent: int, dead: Collection[str]) -> bool:
    """Return whether nobody can be using a container of this node any more."""
    life = (labels.get("skep.boot"), labels.get("skep.parent"))
    return life != (boot, str(parent)) or labels.get("skep.miniworker") in dead
