"""Who may ask: host, origin and token of every request; and how an error is answered.

A page in somebody's browser can send requests to that browser's localhost. So the Host has to
be one of ours, a foreign Origin or Sec-Fetch-Site may change nothing, and JSON routes take
``application/json`` only, which a page cannot send elsewhere without asking first.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from api.meter import NO_ROUTE, Meter
from api.settings import Settings
from wire.errors import BadRequest, Forbidden, QueueFull, SkepError, Unauthorized
from wire.hosts import hostname, is_loopback
from wire.models import to_json

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: Final = {
    "bad_request": 400,
    "unsafe_archive": 400,
    "install_failed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_runtime": 404,
    "unknown_function": 404,
    "unknown_call": 404,
    "unknown_worker": 404,
    "stalled": 408,
    "conflict": 409,
    "too_large": 413,
    "unsupported_archive": 415,
    "queue_full": 429,
    "no_worker": 503,
    "store_unavailable": 503,
    "no_space": 503,
    "no_sandbox": 503,
}
#: What aiohttp refuses by itself.
_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
#: How aiohttp says that a body ends early, or is not of the encoding that it claims.
_BROKEN: Final = (
    web.RequestPayloadError,
    ClientPayloadError,
    HttpProcessingError,
    asyncio.IncompleteReadError,
)
#: Of every JSON answer; given as it is, it need not be put together each time.
JSON_HEADERS: Final = {"Content-Type": "application/json"}
_SAFE: Final = ("GET", "HEAD")
_ALLOWED: Final = (
    "Authorization, Content-Type, Idempotency-Key, Prefer, traceparent, tracestate"
)
_EXPOSED: Final = "Idempotency-Replayed, Link, Location, Retry-After"


def answer(error: SkepError) -> web.Response:
    """Return the HTTP answer of an error, in the one shape."""
    response = json_response({"error": error.as_dict()}, STATUS.get(error.code, 500))
    if isinstance(error, QueueFull):
        response.headers["Retry-After"] = str(error.retry_after_s)
    elif response.status == 503:
        response.headers["Retry-After"] = "1"
    elif response.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=to_json(value), status=status, headers=JSON_HEADERS)


class Guard:
    """Checks requests by the api's settings.

    ``paths`` is what to do when a path or method is none of ours; ``is_open`` are the paths
    that are answered without a token; ``meter`` counts.
    """

    def __init__(
        self,
        settings: Settings,
        paths: str = "",
        is_open: frozenset[str] = frozenset(),
        meter: Meter | None = None,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._open = is_open
        self.meter = meter or Meter()
        self._token = f"Bearer {settings.token}".encode()

    def __repr__(self) -> str:
        return f"<Guard of {self._settings.host}, token {bool(self._settings.token)}>"

    def middleware(self) -> Any:
        """Return the middleware that all requests pass."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            begun = time.perf_counter()
            response = await self._respond(request, handler)
            took_s = time.perf_counter() - begun
            self.meter.answered(_route(request), request.method, response.status, took_s)
            origin = request.headers.get("Origin")
            if origin is not None and origin in self._settings.cors_origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
                response.headers["Vary"] = "Origin"
            return response

        return guarded

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_place(request)
            if request.method == "OPTIONS":
                return _options(request)
            self._check_token(request)
            return await handler(request)
        except SkepError as error:
            return self.refused(request.method, request.path, error)
        except web.HTTPException as error:
            return self._shaped(request, error)
        except _BROKEN as error:
            broken = f"the request's body is broken: {error}"
            return answer(BadRequest(broken, hint="was it sent completely?"))
        except ConnectionError:
            # The client is gone; there is nobody to answer.
            raise
        except Exception as error:
            return self.refused(request.method, request.path, error)

    def lets_in(self, host: str, authorization: str) -> bool:
        """Return whether a request that names no site it comes from may be answered."""
        is_here = not self._settings.is_local or is_loopback(hostname(host))
        return is_here and (not self._settings.token or self._is_token(authorization))

    def refused(self, method: str, path: str, error: Exception) -> web.Response:
        """Count what went wrong, and return how that is answered."""
        if not isinstance(error, SkepError):
            log.error("%s %s failed", method, path, exc_info=error)
            error = SkepError(
                "the api failed; its log says how", hint="this is a bug: report it"
            )
        self.meter.refusals[error.code] += 1
        return answer(error)

    def _check_place(self, request: web.Request) -> None:
        """Refuse what another site's page may have sent."""
        headers = request.headers
        if self._settings.is_local and not is_loopback(hostname(request.host)):
            raise Forbidden(
                f"this api is not called {request.host[:200]!r}",
                hint="ask http://127.0.0.1 or http://localhost, at its port",
            )
        origin = headers.get("Origin")
        if origin in self._settings.cors_origins or request.method in _SAFE:
            return
        foreign = origin is not None and not self._is_own(origin, request.host)
        if foreign or headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise Forbidden(
                "a page of another site may change nothing here",
                hint="open it on purpose with --cors-origin, if you trust that site",
            )

    def _is_own(self, origin: str, host: str) -> bool:
        """Return whether a page's origin is this api itself.

        A page can make its own name lead here (DNS rebinding), so that its origin and the
        host it asks are alike; without a token only what cannot be such a name is believed.
        """
        if origin.partition("://")[2] != host:
            return False
        return bool(self._settings.token) or not _is_public_name(hostname(host))

    def _check_token(self, request: web.Request) -> None:
        if not self._settings.token or request.path in self._open:
            return
        given = request.headers.get("Authorization", "")
        if not self._is_token(given):
            raise Unauthorized(
                "a token is needed" if not given else "the token is wrong",
                hint="send it as Authorization: Bearer TOKEN",
            )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self._token)

    def _shaped(self, request: web.Request, error: web.HTTPException) -> web.Response:
        """Return what aiohttp itself refuses (no such path or method) in the one shape."""
        code = _CODES.get(error.status, "bad_request")
        message = f"there is no {request.path[:200]}" if error.status == 404 else error.reason
        body = {"code": code, "message": message, "hint": self._paths}
        response = json_response({"error": body}, error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _route(request: web.Request) -> str:
    """Return the pattern of its path: never what a client wrote."""
    resource = request.match_info.route.resource
    return NO_ROUTE if resource is None else resource.canonical


def _options(request: web.Request) -> web.Response:
    """Answer OPTIONS, a browser's preflight too: what this path allows.

    Raises:
        HTTPNotFound: there is no such path.
    """
    refused = request.match_info.http_exception
    if refused is not None and not isinstance(refused, web.HTTPMethodNotAllowed):
        raise refused
    methods = sorted({*(refused.allowed_methods if refused else ()), "OPTIONS"})
    allow = ", ".join(methods)
    return web.Response(
        status=204,
        headers={
            "Allow": allow,
            "Access-Control-Allow-Methods": allow,
            "Access-Control-Allow-Headers": _ALLOWED,
        },
    )


def _is_public_name(host: str) -> bool:
    """Return whether this is a name that anyone may own: no address, no bare word."""
    return ":" not in host and "." in host and not host.replace(".", "").isdecimal()
