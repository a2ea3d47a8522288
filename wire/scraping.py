"""The HTTP of ``wire.scrape``: imported when somebody asks."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from wire.hosts import hostname, is_loopback

#: Returns the page and its content type, in the format that a scraper accepts.
Page = Callable[[str], Awaitable[tuple[bytes, str]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(
    sockets: Sequence[socket.socket], page: Page, *, is_local: bool
) -> web.AppRunner:
    """Answer what connects there, until the runner is cleaned up."""
    runner = web.AppRunner(_application(page, is_local), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    for one in sockets:
        await web.SockSite(runner, one).start()
    return runner


def _application(page: Page, is_local: bool) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pid": os.getpid()})

    app = web.Application(middlewares=[_local_alone] if is_local else [])
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", health)])
    return app


@web.middleware
async def _local_alone(request: web.Request, handler: Handler) -> Any:
    # A page in somebody's browser may make its own name lead to this machine.
    if not is_loopback(hostname(request.host)):
        raise web.HTTPForbidden(text="ask http://127.0.0.1 or http://localhost, at this port\n")
    return await handler(request)
