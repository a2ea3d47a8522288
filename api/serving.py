"""aiohttp's server, answering what is no HTTP in the one shape of errors too."""

from __future__ import annotations

import logging

from aiohttp import web

from api.guard import json_response

log = logging.getLogger(__name__)


class Handler(web.RequestHandler):
    """One connection."""

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
        if status >= 500:
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
    def __call__(self) -> web.RequestHandler:
        return Handler(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application with our handler of connections."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # aiohttp has no setting for this; a server makes its connections in ``__call__``.
        server.__class__ = _Server
        return server
