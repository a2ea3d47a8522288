"""The routes of the platform itself: who is there, what waits, whether all is well."""

from __future__ import annotations

import logging
import os
from collections import Counter

from aiohttp import web

from api import answers
from api.asked import Asked
from api.guard import json_response
from api.installation import Installation
from api.metrics import Metrics
from api.queries import DrainQuery, NoPath, NoQuery, WorkerPath
from api.roster import Gone, Session
from api.service import Service
from api.store import boot_time
from wire.errors import Conflict, NoWorker, UnknownWorker
from wire.models import Status
from wire.process import release

log = logging.getLogger(__name__)


class PlatformRoutes:
    """Answers what is asked about nodes, queues and health."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._metrics = Metrics(service)
        self._versions = Installation(service)

    def __repr__(self) -> str:
        return f"<PlatformRoutes over {self._service!r}>"

    async def list_workers(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer who is there, and who was."""
        roster = self._service.roster
        here = [answers.worker(session) for session in roster.sessions.values()]
        names = {worker.name for worker in here}
        gone = [
            answers.gone(one) for one in roster.gone.values() if one.hello.name not in names
        ]
        return json_response(sorted(here + gone, key=lambda worker: worker.name))

    async def drain_worker(self, asked: Asked[WorkerPath, DrainQuery]) -> web.Response:
        """Set a node aside; answer when nothing is left there, or when the wait ends."""
        session = self._session(asked.at.worker, "drained")
        log.info("worker %s is to drain", session.hello.name)
        self._service.perform(self._service.dispatch.nodes.drain(session))
        if not session.is_drained:
            await self._service.waiters.empty(session.number, asked.query.wait)
        return json_response(self._shown(session), 200 if session.is_drained else 202)

    async def resume_worker(self, asked: Asked[WorkerPath, NoQuery]) -> web.Response:
        """Give a node work again."""
        session = self._session(asked.at.worker, "given calls")
        log.info("worker %s is to take calls again", session.hello.name)
        self._service.perform(self._service.dispatch.nodes.resume(session))
        return json_response(self._shown(session))

    async def delete_worker(self, asked: Asked[WorkerPath, NoQuery]) -> web.Response:
        """Forget a node that is gone."""
        name, roster = asked.at.worker, self._service.roster
        if roster.named(name) is not None:
            raise Conflict(
                f"worker {name} is here, and would be known again in a second",
                hint=f"POST /workers/{name}/drain?wait=300, stop it, then remove it",
            )
        if name not in roster.gone:
            raise unknown(name)
        log.info("worker %s is forgotten", name)
        self._service.perform(self._service.dispatch.nodes.forget(name, boot_time()))
        return web.Response(status=204)

    def _session(self, name: str, what: str) -> Session:
        """Return the session of a node that is here."""
        roster = self._service.roster
        session = roster.named(name)
        if session is not None:
            return session
        if name in roster.gone:
            raise Conflict(
                f"worker {name} is gone: it cannot be {what}",
                hint=f"start it again, or DELETE /workers/{name} to forget it",
            )
        raise unknown(name)

    def _shown(self, session: Session) -> answers.WorkerShown:
        roster = self._service.roster
        if session.number in roster.sessions:
            return answers.worker(session)
        # Its worker was stopped meanwhile, or is back in another session.
        again = roster.named(session.hello.name)
        return answers.worker(again) if again else answers.gone(Gone.of(session))

    async def list_queues(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer how many calls wait and run, by function revision."""
        queued: Counter[tuple[str, int]] = Counter()
        running: Counter[tuple[str, int]] = Counter()
        for live in self._service.dispatch.calls.values():
            if not live.status.is_terminal:
                function = live.spec.function
                counter = running if live.status is Status.RUNNING else queued
                counter[function.function_name, function.revision] += 1
        return json_response(
            [
                answers.QueueShown(
                    function_name=name,
                    revision=revision,
                    queued=queued[name, revision],
                    running=running[name, revision],
                )
                for name, revision in sorted(queued | running)
            ]
        )

    async def get_health(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer that this process lives."""
        return json_response(answers.Health(status="ok", version=release(), pid=os.getpid()))

    async def get_version(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer what every process runs."""
        return json_response(await self._versions.shown())

    async def get_readiness(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer whether a call would find a worker."""
        count = sum(session.takes_work for session in self._service.roster.sessions.values())
        if not count:
            raise NoWorker("no worker is connected", hint="GET /workers shows who was")
        return json_response(answers.Readiness(status="ready", workers=count))

    async def get_metrics(self, asked: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer what there is to measure, as Prometheus reads it."""
        accept = asked.request.headers.get("Accept", "")
        body, content_type = await self._metrics.page(accept)
        return web.Response(body=body, headers={"Content-Type": content_type})


def unknown(name: str) -> UnknownWorker:
    """Return the error for a node that is not known."""
    return UnknownWorker(f"there is no worker {name!r}", hint="GET /workers lists them")
