"""The controls of HTTP, aiohttp on uvloop: ``/`` reads JSON and answers it, ``/echo`` bytes.

Prints its port.
"""

from __future__ import annotations

import asyncio

import msgspec
import uvloop
from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    """Answer what was sent."""
    body = msgspec.json.encode(msgspec.json.decode(await request.read()))
    return web.Response(body=body, headers={"Content-Type": "application/json"})


async def echo(request: web.Request) -> web.Response:
    """Answer the bytes that were sent, unread."""
    return web.Response(body=await request.read())


async def serve() -> None:
    """Serve until this process is ended."""
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/", answer)
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
