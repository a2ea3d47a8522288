"""Taking a port for HTTP, the same for everyone who serves any."""

from __future__ import annotations

from aiohttp import web

from wire.errors import BadRequest


async def listen(runner: web.AppRunner, host: str, port: int, *, option: str) -> str:
    """Listen there, on a free port if it is 0; return the URL. ``option`` sets the port.

    Raises:
        BadRequest: the port cannot be had.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_address=True).start()
    except OSError as error:
        raise BadRequest(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint=f"another process may use that port: choose another {option}, or 0 for any",
        ) from error
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
