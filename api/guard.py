"""Who may ask: host, origin and token of every request; and how an error is answered.

A page in somebody's browser can send requests to that browser's localhost. So the Host has to
be one of ours, a foreign Origin or Sec-Fetch-Site may change nothing, and JSON routes take
``application/json`` only, which a page cannot send elsewhere without asking first.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from api.settings import Settings, is_loopback
from wire.errors import BadRequest, Forbidden, QueueFull, SkepError, TooLarge, Unauthorized
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
    "conflict": 409,
    "too_large": 413,
    "unsupported_archive": 415,
    "queue_full": 429,
    "no_worker": 503,
    "store_unavailable": 503,
    "no_space": 503,
    "no_sandbox": 503,
}
#: What to do when a path or method is none of ours.
ROUTES: Final = (
    "POST /registerRuntime, /registerFunction/RUNTIME/NAME, /invokeFunction; "
    "GET /runtimes, /functions, /calls, /call/N, /call/N/logs, /workers, /healthz, /readyz; "
    "DELETE /call/N"
)
_SAFE: Final = ("GET", "HEAD")
#: Answered without a token: whoever watches over processes has none.
_OPEN: Final = ("/healthz", "/readyz")


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
    return web.Response(body=to_json(value), status=status, content_type="application/json")


class Guard:
    """Checks requests by the api's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = f"Bearer {settings.token}".encode()

    def __repr__(self) -> str:
        return f"<Guard of {self._settings.host}, token {bool(self._settings.token)}>"

    def middleware(self) -> Any:
        """Return the middleware that all requests pass."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await self._respond(request, handler)
            origin = request.headers.get("Origin")
            if origin is not None and origin in self._settings.cors_origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Vary"] = "Origin"
            return response

        return guarded

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_place(request)
            if request.method == "OPTIONS":
                return self._preflight()
            self._check_token(request)
            return await handler(request)
        except SkepError as error:
            return answer(error)
        except web.HTTPException as error:
            return _shaped(error)
        except ConnectionError:
            # The client is gone; there is nobody to answer.
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return answer(
                SkepError("the api failed; its log says how", hint="this is a bug: report it")
            )

    def _check_place(self, request: web.Request) -> None:
        """Refuse what another site's page may have sent."""
        headers = request.headers
        if self._settings.is_local and not is_loopback(_hostname(request.host)):
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
        return bool(self._settings.token) or not _is_public_name(_hostname(host))

    def _check_token(self, request: web.Request) -> None:
        if not self._settings.token or request.path in _OPEN:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(errors="replace"), self._token):
            raise Unauthorized(
                "a token is needed" if not given else "the token is wrong",
                hint="send it as Authorization: Bearer TOKEN",
            )

    def _preflight(self) -> web.Response:
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Prefer",
            },
        )


async def json_body(request: web.Request) -> bytes:
    """Return the body of a JSON route.

    Raises:
        BadRequest: it is not sent as application/json.
        TooLarge: it is over the limit.
    """
    if request.content_type != "application/json":
        sent = request.headers.get("Content-Type", "nothing that says its type")
        raise BadRequest(
            f"this route takes application/json; sent was {sent[:80]}",
            hint="curl: --header 'Content-Type: application/json'",
        )
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(
            "the request's body is too large", hint="params may be 6 MiB by default"
        ) from error


def _is_public_name(host: str) -> bool:
    """Return whether this is a name that anyone may own: no address, no bare word."""
    return ":" not in host and "." in host and not host.replace(".", "").isdecimal()


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _shaped(error: web.HTTPException) -> web.Response:
    """Return what aiohttp itself refuses (no such path or method) in the one shape."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    code = codes.get(error.status, "bad_request")
    body = {"code": code, "message": error.reason, "hint": ROUTES}
    response = json_response({"error": body}, error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
