"""Nothing is shared: files are unpacked in the container, and its agent speaks by stdio.

The engine unpacks nothing in a container whose root is read-only, a volume excepted. So a
sandbox has one for this, of its own and gone with it, where nothing is its user's to change.
A build writes into the container itself: what confines it is all the rest, and what it made
is fetched before the container goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from miniworker import creation, ownership, passing
from miniworker.attached import Attached
from miniworker.collecting import replace_by
from miniworker.creation import Ways
from miniworker.engine import Engine
from miniworker.engine_settings import Settings
from miniworker.packing import Folder, Tree, pack
from miniworker.sandbox import Plan
from wire import inside

#: What an agent is told instead of a socket's path.
BY_STDIO: Final = "-"
#: Where the files are that a build's settings name: at their own path they might hide others.
GIVEN: Final = f"{creation.OWN}/given"


class Stdio:
    """The way of one container."""

    can_wait = True

    def __init__(self, plan: Plan, settings: Settings, path: str) -> None:
        self._plan = plan
        self._path = path
        self._agents = Path(settings.folder, "agents")
        #: Files that a build's settings name, and what they are called inside.
        self._files = {
            file: f"{GIVEN}/{number}/{Path(file).name}"
            for number, file in enumerate(passing.outermost(plan.env) if plan.build else ())
        }

    def given(self) -> Mapping[str, str]:
        """Return a build's variables, which name files by their new paths."""
        return passing.moved(self._plan.env, self._files) if self._plan.build else {}

    def hand_over(self, _: tuple[int, int]) -> None:
        """Do nothing: what a build may write is a copy."""

    def ways(self) -> Ways:
        """Return that there is nothing to bind."""
        return Ways(socket=BY_STDIO, attached=True)

    def fill(self, engine: Engine, container: str, user: tuple[int, int]) -> None:
        """Put in the agents, and the code."""
        if self._plan.build:
            engine.put(container, "/", pack(self._of_build(user)))
        else:
            engine.put(container, creation.OWN, pack(self._of_sandbox()))

    def connect(self, engine: Engine, container: str) -> Attached | None:
        """Attach to the container; before its start, so that no word is missed."""
        return Attached(engine.attach(container))

    def adopt(self, engine: Engine, container: str, plan: Plan) -> None:
        """Put in the code of this plan."""
        self._plan = plan
        engine.put(container, creation.OWN, pack([_bundle(plan)]))

    def collect(self, engine: Engine, container: str) -> None:
        """Bring home what a build made."""
        engine.kill(container)
        replace_by(self._plan.bundle, engine.archive(container, self._path))

    def close(self) -> None:
        """Seal what was built."""
        if self._plan.build:
            ownership.give(self._plan.bundle, os.geteuid(), os.getegid(), seal=True)

    def _of_sandbox(self) -> Iterator[Tree | Folder]:
        yield Tree(source=self._agents, target=_under_own(creation.AGENTS))
        yield Folder(target=_under_own(creation.BUNDLES), mode=0o711)
        if not (self._plan.generic or self._plan.is_baked):
            yield _bundle(self._plan)

    def _of_build(self, user: tuple[int, int]) -> Iterator[Tree | Folder]:
        yield Tree(source=self._agents, target=creation.AGENTS)
        yield Folder(target=inside.TMP, mode=0o1777)
        for file, place in self._files.items():
            yield Tree(source=Path(file).resolve(), target=place)
        yield Tree(source=self._plan.bundle, target=self._path, owner=user)


def _bundle(plan: Plan) -> Tree:
    name = f"{_under_own(creation.BUNDLES)}/{plan.bundle.name}"
    return Tree(source=plan.bundle, target=name)


def _under_own(place: str) -> str:
    return place.removeprefix(creation.OWN + "/")
