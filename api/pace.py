"""How slowly a request's body may come: a client that stalls does not hold the api for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from aiohttp import web

from wire.errors import BadRequest, Stalled, TooLarge

#: Slower than this on average, a body does not end; a phone on a bad day is faster.
SLOWEST_BYTES_PER_S: Final = 4096
T = TypeVar("T")


class Pace:
    """One body: it may pause ``stall_s``, and has that long beside what its bytes take."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + stall_s

    def __repr__(self) -> str:
        return f"<Pace, {self._until - self._loop.time():.1f} s left>"

    def came(self, count: int) -> None:
        """Bytes came: they are worth some time."""
        self._until += count / SLOWEST_BYTES_PER_S

    async def next(self, reading: Awaitable[T]) -> T:
        """Wait for a piece of the body.

        Raises:
            Stalled: it did not come in time.
        """
        until = min(self._until, self._loop.time() + self._stall_s)
        try:
            async with asyncio.timeout_at(until):
                return await reading
        except TimeoutError:
            raise Stalled(
                f"the request's body did not go on for {self._stall_s:g} s, or far too slowly",
                hint="send it again over a better link; --upload-stall sets how long is waited",
            ) from None


async def json_body(request: web.Request, stall_s: float) -> bytes:
    """Return the body of a JSON route.

    Raises:
        BadRequest: it is not sent as application/json.
        TooLarge: it is over the limit.
        Stalled: it does not come.
    """
    if request.content_type != "application/json":
        sent = request.headers.get("Content-Type", "nothing that says its type")
        raise BadRequest(
            f"this route takes application/json; sent was {sent[:80]}",
            hint="curl: --header 'Content-Type: application/json'",
        )
    await invite(request)
    return await _read(request, Pace(stall_s), request.client_max_size)


async def expects(_: web.Request) -> None:
    """Answer nothing yet to ``Expect: 100-continue``: what is refused need not be sent."""


async def invite(request: web.Request) -> None:
    """Let a client that waits for it begin with the body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer, whose size is counted from here.
        request.writer.output_size = 0


async def _read(request: web.Request, pace: Pace, most: int) -> bytes:
    content, announced, size = request.content, request.content_length or 0, 0
    pieces = []
    if content.is_eof():
        # A small body is here with its head: nothing is to be waited for.
        pieces.append(await content.read())
        size = len(pieces[0])
    while max(announced, size) <= most and not content.at_eof():
        piece = await pace.next(content.readany())
        pace.came(len(piece))
        pieces.append(piece)
        size += len(piece)
    if max(announced, size) > most:
        raise TooLarge("the request's body is too large", hint="params may be 6 MiB by default")
    return b"".join(pieces)
