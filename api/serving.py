"""aiohttp's server with two habits of ours.

What is no HTTP is answered in the one shape of errors, and a client that connects and then
says nothing, or only the beginning of a request, does not stay for ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from api.guard import json_response

log = logging.getLogger(__name__)

#: How long handlers may take to answer once the api stops.
SHUTDOWN_S: Final = 3.0
#: How long an idle connection stays open between two requests.
KEEP_ALIVE_S: Final = 75.0


class Handler(web.RequestHandler):
    """One connection."""

    #: How long the head of a first request may take.
    stall_s = 30.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.stall_s, self._lose_patience)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _lose_patience(self) -> None:
        # Later requests of the connection are under its ``keepalive_timeout``.
        if not self._request_count:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no request, or a failure that nobody caught, and hang up."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun already")
        if isinstance(exc, ConnectionError):
            # Nobody is there to be answered, and nothing of ours failed.
            log.debug("a client hung up before its request was over")
        elif status >= 500:
            log.error("a request could not be answered", exc_info=exc)
        said = (message or str(exc or "")).strip().partition("\n")[0][:200]
        error = {
            "code": "internal" if status >= 500 else "bad_request",
            "message": f"this is no HTTP request: {said}",
            "hint": "send HTTP/1.1 to this port; workers connect to another one",
        }
        if status >= 500:
            error |= {"message": "the api failed; its log says how", "hint": "report this bug"}
        response = json_response({"error": error}, status)
        response.force_close()
        return response


class _Server(web.Server):
    stall_s = Handler.stall_s

    def __call__(self) -> web.RequestHandler:
        handler = Handler(self, loop=self._loop, **self._kwargs)
        handler.stall_s = self.stall_s
        return handler


class Runner(web.AppRunner):
    """Runs an application with our handler of connections."""

    __slots__ = ("_stall_s",)

    def __init__(self, app: web.Application, stall_s: float) -> None:
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            keepalive_timeout=KEEP_ALIVE_S,
        )
        self._stall_s = stall_s

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # aiohttp has no setting for this; a server makes its connections in ``__call__``.
        server.__class__ = _Server
        server.stall_s = self._stall_s  # type: ignore[attr-defined]
        return server
