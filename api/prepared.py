"""``?prepare=true``: the bundle first, then the change; told at the end, or as it goes on.

The stream is one JSON object a line (application/x-ndjson): ``{"log": …}`` while the installer
runs, empty ones while it is silent, and at last ``{"status": …}`` with the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from api.asked import NDJSON
from api.guard import answer as answer_of
from api.preparing import OnText
from wire.errors import BadRequest, SkepError
from wire.models import to_json
from wire.process import spawn

log = logging.getLogger(__name__)

BUG: Final = SkepError("the api failed; its log says how", hint="this is a bug: report it")
#: A silent installer is no reason for a proxy, or a client, to give up.
QUIET_S: Final = 10.0

Prepare = Callable[[OnText], Awaitable[None]]
Change = Callable[[], Awaitable[web.Response]]


async def answer_prepared(
    request: web.Request, prepare: Prepare, change: Change
) -> web.StreamResponse:
    """Answer a request that changes a function once its bundle is made.

    A client that hung up meanwhile changes nothing.
    """
    if NDJSON in request.headers.get("Accept", ""):
        return await _streamed(request, prepare, change)
    await prepare(lambda _: None)
    _check_there(request)
    return await change()


async def _streamed(
    request: web.Request, prepare: Prepare, change: Change
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    # No one on the way may wait for a buffer to fill.
    response.headers.update({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    texts: asyncio.Queue[str | None] = asyncio.Queue()
    changing = asyncio.Event()

    async def begin_change() -> web.Response:
        _check_there(request)
        changing.set()
        return await change()

    await response.prepare(request)
    work = spawn(_outcome(prepare, begin_change, texts), "prepare a function")
    try:
        while (text := await _next(texts)) is not None:
            await response.write(_line({"log": text}))
        await response.write(_line(await work))
        await response.write_eof()
    except ConnectionError:
        log.info("%s: the client hung up", request.path)
    finally:
        # If the client is gone nobody is left for whom to change anything; what has begun ends.
        if not changing.is_set():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    return response


async def _next(texts: asyncio.Queue[str | None]) -> str | None:
    try:
        async with asyncio.timeout(QUIET_S):
            return await texts.get()
    except TimeoutError:
        return ""


async def _outcome(
    prepare: Prepare, change: Change, texts: asyncio.Queue[str | None]
) -> dict[str, Any]:
    """Return the last line: how it ended, in the shape that the plain answer has."""
    try:
        await prepare(texts.put_nowait)
        answer = await change()
        key = "function"
    except SkepError as error:
        answer, key = answer_of(error), "error"
    except Exception:
        # The answer has begun: there is no other place left to say so.
        log.exception("a change failed after its dependencies were installed")
        answer, key = answer_of(BUG), "error"
    finally:
        texts.put_nowait(None)
    body = msgspec.json.decode(answer.body if isinstance(answer.body, bytes) else b"{}")
    return {"status": answer.status, key: body["error"] if key == "error" else body}


def _check_there(request: web.Request) -> None:
    if request.transport is None or request.transport.is_closing():
        # Nobody reads this; but it ends the request as any other refusal does.
        raise BadRequest("the client hung up before its dependencies were installed")


def _line(value: dict[str, Any]) -> bytes:
    return to_json(value) + b"\n"
