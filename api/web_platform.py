"""The routes of the platform itself: who is there, what waits, whether all is well."""

from __future__ import annotations

import os
from collections import Counter

from aiohttp import web

from api import answers
from api.asked import Asked
from api.guard import json_response
from api.metrics import Metrics
from api.queries import NoPath, NoQuery
from api.service import Service
from wire.errors import NoWorker
from wire.models import Status
from wire.process import release


class PlatformRoutes:
    """Answers what is asked about nodes, queues and health."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._metrics = Metrics(service)

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
