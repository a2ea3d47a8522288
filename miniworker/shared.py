"""Files and sockets that container and miniworker both see: bound from this node's folders.

A worker that is itself in a container names the sources of its own mounts; of a volume that
is the volume's folder on the engine's host.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from miniworker import creation, ownership, passing
from miniworker.attached import Attached
from miniworker.creation import Ways
from miniworker.engine import Engine
from miniworker.engine_settings import Settings
from miniworker.sandbox import SOCKET_NAME, Plan
from miniworker.sharing import host_path
from wire import inside


class Shared:
    """The way of one container."""

    def __init__(self, plan: Plan, settings: Settings, path: str) -> None:
        self._plan = plan
        self._path = path
        self._agents = Path(settings.folder, "agents")
        self._bundles = settings.bundles
        self._mounts = msgspec.json.decode(settings.mounts, type=dict[str, str])

    @property
    def can_wait(self) -> bool:
        """Return whether all bundles are shown: no mount can be added to a container."""
        return bool(self._bundles)

    def given(self) -> Mapping[str, str]:
        """Return a build's variables; the files that they name are shown where they are."""
        return passing.to_build(self._plan, creation.SOCKETS)

    def hand_over(self, user: tuple[int, int]) -> None:
        """Give a build's folders to its user."""
        if not self._plan.build:
            return
        self._temporary.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self._temporary, *user)
            ownership.give(self._plan.bundle, *user)

    def ways(self) -> Ways:
        """Return all that is bound."""
        return Ways(
            socket=f"{creation.SOCKETS}/{SOCKET_NAME}",
            shown=self._on_host([*self._shown(), *_named(self._plan.env)]),
            writable=self._on_host(self._writable()),
        )

    def fill(self, _: Engine, __: str, ___: tuple[int, int]) -> None:
        """Do nothing: it is all there."""

    def connect(self, _: Engine, __: str) -> Attached | None:
        """Return nothing: the agent finds the socket."""
        return None

    def adopt(self, _: Engine, __: str, plan: Plan) -> None:
        """Take note: the bundle is one of those that it sees."""
        self._plan = plan

    def collect(self, _: Engine, __: str) -> None:
        """Do nothing: it was built in place."""

    def close(self) -> None:
        """Seal what was built."""
        if self._plan.build:
            shutil.rmtree(self._temporary, ignore_errors=True)
            ownership.give(self._plan.bundle, os.geteuid(), os.getegid(), seal=True)

    @property
    def _temporary(self) -> Path:
        return self._plan.folder / "tmp"

    def _shown(self) -> list[tuple[Path, str]]:
        plan = self._plan
        shown = [(self._agents, creation.AGENTS), (plan.sockets, creation.SOCKETS)]
        if plan.build:
            return shown
        if plan.is_baked:
            return shown
        if plan.generic:
            return [*shown, (plan.bundle, creation.BUNDLES)]
        if plan.bundle.parent.absolute() == Path(self._bundles or "/").absolute():
            # All of them, none of which can be listed: a container need not know its own.
            return [*shown, (plan.bundle.parent, creation.BUNDLES)]
        return [*shown, (plan.bundle, f"{creation.BUNDLES}/{plan.bundle.name}")]

    def _writable(self) -> list[tuple[Path, str]]:
        if not self._plan.build:
            return []
        return [(self._plan.bundle, self._path), (self._temporary, inside.TMP)]

    def _on_host(self, mounts: list[tuple[Path, str]]) -> tuple[tuple[str, str], ...]:
        return tuple(
            (host_path(str(source.absolute()), self._mounts), target)
            for source, target in mounts
        )


def _named(env: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Return the files that settings of a build name: shown where they are here."""
    files = passing.outermost(env)
    return [(Path(file), file) for file in files if inside.path_inside(file) == file]
