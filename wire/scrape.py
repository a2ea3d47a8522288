"""The port of a process that has no other HTTP: ``/metrics`` and ``/healthz``, nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from wire.hosts import hostname, is_loopback
from wire.listening import listen

log = logging.getLogger(__name__)

#: Returns the page and its content type, in the format that a scraper accepts.
Page = Callable[[str], Awaitable[tuple[bytes, str]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process may be scraped; without a port nowhere, port 0 is a free one."""

    host: str = "127.0.0.1"
    port: int | None = None


@asynccontextmanager
async def scraped(place: Place, page: Page) -> AsyncIterator[str]:
    """Serve a page within the block; give its URL, or nothing if it is served nowhere.

    Raises:
        BadRequest: the port cannot be had.
    """
    if place.port is None:
        yield ""
        return
    runner = web.AppRunner(_application(place, page), access_log=None, shutdown_timeout=1.0)
    try:
        base = await listen(runner, place.host, place.port, option="--metrics-port")
        log.info("metrics at %s/metrics", base)
        yield f"{base}/metrics"
    finally:
        await runner.cleanup()


def _application(place: Place, page: Page) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pid": os.getpid()})

    app = web.Application(middlewares=[_local_alone] if is_loopback(place.host) else [])
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", health)])
    return app


@web.middleware
async def _local_alone(request: web.Request, handler: Handler) -> Any:
    # A page in somebody's browser may make its own name lead to this machine.
    if not is_loopback(hostname(request.host)):
        raise web.HTTPForbidden(text="ask http://127.0.0.1 or http://localhost, at this port\n")
    return await handler(request)
