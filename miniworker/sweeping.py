"""Removes the containers that miniworkers left which were killed, and never anybody else's.

Only those of this installation and node, and only while the worker holds its node's lock:
nobody else can be using them. The one exception says when itself: a container with the label
``skep.expires`` has no agent that would end it, so every worker of its installation does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from miniworker.asking import EXPIRES
from miniworker.engine import Engine, EngineAway, EngineRefused
from miniworker.engine_settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 15.0


def sweep(
    settings: Mapping[str, str], parent: int, dead: Collection[str] = (), patience_s: float = 0
) -> None:
    """Remove what was left by others than the zygote ``parent``, and by the dead of its own.

    ``parent`` 0 is no zygote: then everything of this node goes. An engine that is away, the
    commonest cause of leavings, is waited for as long as there is patience.
    """
    known = msgspec.convert(dict(settings), Settings)
    limit, pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        try:
            _sweep_once(known, parent, dead)
            return
        except (EngineAway, EngineRefused) as error:
            if time.monotonic() + pause_s > limit:
                log.warning("containers may be left behind: %s", error.message)
                return
        time.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, 2 * pause_s)


def _sweep_once(known: Settings, parent: int, dead: Collection[str]) -> None:
    engine = Engine(known.engine, known.version)
    for container, labels in engine.containers({"skep": known.installation}).items():
        is_own = labels.get("skep.node") == known.node
        if (is_own and is_left(labels, known.boot, parent, dead)) or is_expired(labels):
            engine.remove(container)
    engine.close()


def is_left(labels: Mapping[str, str], boot: str, parent: int, dead: Collection[str]) -> bool:
    """Return whether nobody can be using a container of this node any more."""
    life = (labels.get("skep.boot"), labels.get("skep.parent"))
    return life != (boot, str(parent)) or labels.get("skep.miniworker") in dead


def is_expired(labels: Mapping[str, str]) -> bool:
    """Return whether a container has outlived all that its call may take, whoever made it."""
    expires = labels.get(EXPIRES, "")
    return expires.isdecimal() and time.time() > int(expires)
