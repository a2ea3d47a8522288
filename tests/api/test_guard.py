"""Which pages of a browser may change something, by tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from api.guard import Guard
from api.settings import Settings


async def status(settings: Settings, method: str, **headers: str) -> int:
    """Return what a request is answered whose handler would say 204."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = make_mocked_request(method, "/call/1", headers=named)
    response: web.StreamResponse = await Guard(settings).middleware()(request, handler)
    return response.status


def settings(host: str = "127.0.0.1", token: str = "") -> Settings:
    return Settings(db="", data=Path(), host=host, token=token, insecure=True)


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:3000", "", 204),
        ("localhost:3000", "http://localhost:3000", 204),
        ("localhost:3000", "http://localhost:8080", 403),
        ("evil.example:3000", "", 403),
        ("evil.example:3000", "http://evil.example:3000", 403),
    ],
)
async def test_on_loopback(host: str, origin: str, expected: int) -> None:
    headers = {"Origin": origin} if origin else {}
    assert await status(settings(), "DELETE", Host=host, **headers) == expected


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("faas.example:3000", "", 204),
        ("10.1.2.3:3000", "http://10.1.2.3:3000", 204),
        ("[fd00::1]:3000", "http://[fd00::1]:3000", 204),
        ("api:3000", "http://api:3000", 204),
        ("api:3000", "http://evil.example", 403),
        ("evil.example:3000", "http://evil.example:3000", 403),
    ],
)
async def test_open_to_a_network_a_name_that_leads_here_is_not_believed(
    host: str, origin: str, expected: int
) -> None:
    headers = {"Origin": origin} if origin else {}
    assert await status(settings("0.0.0.0"), "POST", Host=host, **headers) == expected


async def test_a_token_is_believed_whatever_the_name() -> None:
    headers = {"Host": "faas.example", "Origin": "https://faas.example"}
    guarded = settings("0.0.0.0", token="geheim")
    assert await status(guarded, "POST", **headers) == 401
    assert await status(guarded, "POST", Authorization="Bearer geheim", **headers) == 204
