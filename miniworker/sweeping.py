"""Removes the containers that miniworkers left which were killed, and never anybody else's.

Only those of this installation and node, and only while the worker holds its node's lock:
nobody else can be using them. The one exception says when itself: a container with the label
``skep.expires`` has no agent that would end it, so every worker of its installation does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from miniworker.asking import EXPIRES
from miniworker.engine import WAIT_S, Engine, EngineAway, EngineRefused
from miniworker.engine_settings import Settings
from miniworker.underway import Underway

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 15.0
#: An engine that answers for so long and has not made it never got the request, or refused it.
LATE_S: Final = 15.0
#: A busy engine takes that long for a list; who has no more patience waits no longer.
LEAST_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """The zygote that goes on, and those of its miniworkers that are dead.

    ``parent`` 0 is no zygote: then everything of the node goes, as long as its ``worker`` is
    there and holds the lock. Without it the node may have begun its next life: then only what
    is of this one goes.
    """

    parent: int = 0
    dead: Collection[str] = ()
    worker: int = 0

    def is_left(self, labels: Mapping[str, str], boot: str) -> bool:
        """Return whether nobody can be using a container of this node any more."""
        if not self.parent and self.worker and os.getppid() != self.worker:
            return labels.get("skep.boot") == boot
        life = (labels.get("skep.boot"), labels.get("skep.parent"))
        return life != (boot, str(self.parent)) or labels.get("skep.miniworker") in self.dead


def sweep(
    settings: Mapping[str, str],
    whose: Whose,
    patience_s: float = 0,
    pauses_s: tuple[float, float] = (FIRST_PAUSE_S, LAST_PAUSE_S),
) -> bool:
    """Remove what was left, by the dead or by other lives of the node.

    As long as there is patience an engine that is away, the commonest cause of leavings, is
    waited for, and so are the containers that it has yet to make for somebody who is dead;
    ``pauses_s`` are those between the first looks, and the longest.
    Returns whether one of those may still come.
    """
    known = msgspec.convert(dict(settings), Settings)
    limit, (pause_s, longest_s) = time.monotonic() + patience_s, pauses_s
    wait_s = min(WAIT_S, max(LEAST_WAIT_S, patience_s))
    underway, answers_since = Underway(Path(known.folder)), None
    while True:
        try:
            missing, coming = _sweep_once(known, whose, underway, wait_s)
            answers_since = answers_since or time.monotonic()
            if time.monotonic() - answers_since > LATE_S:
                for name in missing:
                    underway.end(name)
                missing = []
            if not missing and not coming:
                return False
            words = f"what was asked for has not come yet: {', '.join([*missing, *coming])}"
        except (EngineAway, EngineRefused) as error:
            words, answers_since = error.message, None
        if time.monotonic() + pause_s > limit:
            log.warning("containers may be left behind: %s", words)
            return bool(_asked(known, whose, underway))
        time.sleep(pause_s)
        pause_s = min(longest_s, 2 * pause_s)


def _sweep_once(
    known: Settings, whose: Whose, underway: Underway, wait_s: float
) -> tuple[list[str], list[str]]:
    """Remove what there is; return what may still come, and what is sure to.

    An engine lists a container before it knows it by its id.
    """
    # Before the look: what is answered after it was found by it.
    asked = _asked(known, whose, underway)
    engine = Engine(known.engine, known.version, wait_s)
    found, coming = set[str](), list[str]()
    try:
        for one in engine.containers({"skep": known.installation}):
            if _is_own_and_left(one.labels, known, whose) or is_expired(one.labels):
                found.update(one.names)
                if not engine.remove(one.id):
                    coming += one.names
    finally:
        engine.close()
    for name in found.intersection(asked).difference(coming):
        underway.end(name)
    return [name for name in asked if name not in found], coming


def _asked(known: Settings, whose: Whose, underway: Underway) -> list[str]:
    return underway.of(lambda labels: _is_own_and_left(labels, known, whose))


def _is_own_and_left(labels: Mapping[str, str], known: Settings, whose: Whose) -> bool:
    return labels.get("skep.node") == known.node and whose.is_left(labels, known.boot)


def is_expired(labels: Mapping[str, str]) -> bool:
    """Return whether a container has outlived all that its call may take, whoever made it."""
    expires = labels.get(EXPIRES, "")
    return expires.isdecimal() and time.time() > int(expires)
