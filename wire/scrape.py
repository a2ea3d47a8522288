"""The port of a process that has no other HTTP: ``/metrics`` and ``/healthz``, nothing else.

A web server is 8 MB and a third of a process's start. Most are never asked: only the port is
taken, and the server comes with the first connection, which waits in the port's queue.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.hosts import is_loopback
from wire.listening import take_port, url_of

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

log = logging.getLogger(__name__)

#: Returns the page and its content type, in the format that a scraper accepts.
Page = Callable[[str], Awaitable[tuple[bytes, str]]]


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
    sockets = take_port(place.host, place.port, option="--metrics-port")
    serving = asyncio.create_task(_serve(sockets, page, is_loopback(place.host)), name="scrape")
    try:
        base = url_of(sockets[0])
        log.info("metrics at %s/metrics", base)
        yield f"{base}/metrics"
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        for one in sockets:
            one.close()


async def _serve(sockets: Sequence[socket.socket], page: Page, is_local: bool) -> None:
    """Wait for somebody who connects; then answer, until cancelled."""
    await _asked(sockets)
    server = await asyncio.to_thread(_server)
    runner: AppRunner = await server(sockets, page, is_local=is_local)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _asked(sockets: Sequence[socket.socket]) -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for one in sockets:
        loop.add_reader(one, asked.set)
    try:
        await asked.wait()
    finally:
        for one in sockets:
            loop.remove_reader(one)


def _server() -> Callable[..., Awaitable[AppRunner]]:
    from wire.scraping import serve  # noqa: PLC0415

    return serve
