"""What every process of the installation runs, as far as the api knows it."""

from __future__ import annotations

import time
from typing import Final

from api.answers import ProcessShown, ProcessState, Versions
from api.service import Service
from wire.errors import StoreUnavailable
from wire.process import release
from wire.records import Ping, Pong
from wire.releases import PROTOCOL

#: How long the DB node may take to say which release it is.
PATIENCE_S: Final = 2.0


class Installation:
    """Api, DB node and workers, with their releases and protocol versions."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: What the DB node said when it was asked last.
        self._pong: Pong | None = None

    def __repr__(self) -> str:
        return f"<Installation of {self._service!r}>"

    async def shown(self) -> Versions:
        """Return all of them: the api, its DB node, the workers by name."""
        api = ProcessShown(
            process="api",
            name=self._service.settings.name,
            release=release(),
            protocol=PROTOCOL,
            state="up",
        )
        workers = sorted(self._workers(), key=lambda one: one.name)
        processes = (api, await self._dbnode(), *workers)
        return Versions(release=release(), protocol=PROTOCOL, processes=processes)

    async def _dbnode(self) -> ProcessShown:
        why = ""
        try:
            self._pong = await self._service.store.ask("reads", Ping(), Pong, PATIENCE_S)
        except StoreUnavailable as error:
            why = error.message
        known = self._pong
        return ProcessShown(
            process="dbnode",
            name="dbnode",
            release=known.version if known else "",
            protocol=known.protocol if known else 0,
            state="silent" if why else "up",
            reason=why,
        )

    def _workers(self) -> list[ProcessShown]:
        roster = self._service.roster
        here = [
            _worker(one.hello.name, one.hello.version, "draining" if one.is_draining else "up")
            for one in roster.sessions.values()
        ]
        names = {one.name for one in here}
        gone = [
            _worker(one.hello.name, one.hello.version, "gone") for one in roster.gone.values()
        ]
        return [*here, *(one for one in gone if one.name not in names), *self._refused()]

    def _refused(self) -> list[ProcessShown]:
        lately = self._service.hub.strangers.lately(time.time_ns() // 1_000_000)
        return [
            ProcessShown(
                process="worker",
                name=one.who.name,
                release=one.who.release,
                protocol=one.who.protocol,
                state="refused",
                reason=one.why,
            )
            for one in lately
        ]


def _worker(name: str, version: str, state: ProcessState) -> ProcessShown:
    # A session is open only with those that speak the api's own.
    return ProcessShown(
        process="worker", name=name, release=version, protocol=PROTOCOL, state=state
    )
