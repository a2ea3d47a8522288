"""Sends requests over HTTP: the one place that knows httpx, in its two colours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from skep.dialogue import Answer, Lost, Request
from skep.errors import BadRequest
from skep.files import place_of, whole_file

DEFAULT_URL: Final = "http://127.0.0.1:3000"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Who waits for calls holds a connection each; how many wait is for the user to say.
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100)
#: What an HTTP library may raise when no whole answer came.
_LOSSES: Final = (httpx.TransportError, httpx.DecodingError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where skep is, and what opens it."""

    url: str
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None) -> Self:
        """Return a place; what is not said is taken from the environment.

        Raises:
            BadRequest: the URL is none, or no header can carry the token.
        """
        url = (url or os.environ.get("SKEP_URL") or DEFAULT_URL).rstrip("/")
        token = token if token is not None else os.environ.get("SKEP_TOKEN", "")
        if not _is_url(url):
            raise BadRequest(
                f"{url!r} is no address of a skep",
                code="bad_request",
                hint=f"write it like {DEFAULT_URL} (--url, SKEP_URL)",
            )
        if any(not 0x21 <= ord(char) < 0x7F for char in token):
            raise BadRequest(
                "the token holds characters that no header can carry",
                code="bad_request",
                hint="a token is visible ASCII; was a line's end copied with it?",
            )
        return cls(url, token)

    def options(self) -> dict[str, Any]:
        """Return what a client of httpx is made with."""
        parts = urlsplit(self.url)
        is_here = parts.hostname in _LOOPBACK
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {self.token}"} if self.token else {},
            "limits": _LIMITS,
            # A proxy of the environment knows no way to this machine's own loopback.
            "trust_env": not is_here,
            # Certificates take long to load, and plain HTTP to loopback shows none.
            "verify": not (is_here and parts.scheme == "http"),
        }

    def lost(self, error: Exception) -> Lost:
        """Say that no answer came from here."""
        why = f"no answer from {self.url}: {str(error) or type(error).__name__}"
        return Lost(why, error, is_late=isinstance(error, httpx.TimeoutException))


class Transport:
    """Sends requests and waits for their answers. Threads may share it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._http = httpx.Client(**place.options())
        self._pid = os.getpid()

    def send(self, request: Request) -> Answer | Lost:
        """Send a request once."""
        try:
            with (
                _parts(request) as parts,
                self._client().stream(request.method, request.path, **parts) as response,
            ):
                with _taking(request, response) as taken:
                    for piece in response.iter_bytes():
                        taken.take(piece)
                return taken.answer(response)
        except _LOSSES as error:
            return self._place.lost(error)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _client(self) -> httpx.Client:
        if self._pid != os.getpid():
            # A fork: two processes that speak on one connection would mix their answers.
            self._http, self._pid = httpx.Client(**self._place.options()), os.getpid()
        return self._http


class AsyncTransport:
    """Sends requests and awaits their answers, on one event loop."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._http = httpx.AsyncClient(**place.options())

    async def send(self, request: Request) -> Answer | Lost:
        """Send a request once."""
        try:
            with _parts(request) as parts:
                stream = self._http.stream(request.method, request.path, **parts)
                async with stream as response:
                    with _taking(request, response) as taken:
                        async for piece in response.aiter_bytes():
                            taken.take(piece)
                    return taken.answer(response)
        except _LOSSES as error:
            return self._place.lost(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@contextmanager
def _parts(request: Request) -> Iterator[dict[str, Any]]:
    """Give what httpx sends; a package is read piece by piece from the disk."""
    parts: dict[str, Any] = {
        "params": dict(request.query),
        "headers": dict(request.headers),
        "timeout": httpx.Timeout(request.limit_s, read=request.limit_s + request.wait_s),
    }
    if request.form is None:
        yield parts | {"content": request.content}
        return
    form = request.form
    files: list[tuple[str, tuple[str | None, Any, str]]] = []
    if form.extra is not None:
        files.append(("settings", (None, form.extra, "application/json")))
    parts["data"] = dict(form.fields)
    if isinstance(form.module, bytes):
        files.append(("module", ("package", form.module, "application/octet-stream")))
        yield parts | {"files": files}
        return
    path = Path(form.module)
    with path.open("rb") as file:
        files.append(("module", (path.name, file, "application/octet-stream")))
        yield parts | {"files": files}


@dataclass(slots=True)
class _Taken:
    """Where the body of an answer goes, piece by piece."""

    take: Callable[[bytes], object]
    body: bytearray = field(default_factory=bytearray)
    path: str = ""

    def answer(self, response: httpx.Response) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(self.body), self.path)


@contextmanager
def _taking(request: Request, response: httpx.Response) -> Iterator[_Taken]:
    if request.into is not None and response.is_success:
        path = place_of(request.into, response.headers)
        with whole_file(path) as file:
            # To the page cache: no longer than the loop takes for the piece itself.
            yield _Taken(file.write, path=str(path))
    elif request.on_piece is not None and _comes_in_lines(response):
        request.on_piece(b"")
        yield _Taken(request.on_piece)
    else:
        body = bytearray()
        yield _Taken(body.extend, body)


def _comes_in_lines(response: httpx.Response) -> bool:
    return "ndjson" in str(response.headers.get("Content-Type", ""))


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        httpx.URL(url)
        # Reading the port checks it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        return False
