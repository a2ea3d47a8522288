"""Clients that hold a connection and do nothing with it: others are served all the same."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from api.crowd import SPARE
from tests.api.room import Room, open_room
from tests.conftest import soon

ROOM_FOR = 40


def connected(room: Room, says: bytes = b"", *, takes: int | None = None) -> socket.socket:
    """Connect and say something; ``takes`` bounds what the kernel takes in for it."""
    where = urlsplit(room.url)
    client = socket.socket()
    if takes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
    client.connect((where.hostname, where.port))
    client.sendall(says)
    client.setblocking(False)
    return client


def is_over(client: socket.socket) -> bool:
    """Return whether the api hung up; nothing is read of what it said."""
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def descriptors(room: Room) -> int:
    assert room.api is not None
    return len(list(Path(f"/proc/{room.api.pid}/fd").iterdir()))


@asynccontextmanager
async def narrow_room() -> AsyncIterator[Room]:
    """An api that may have few descriptors."""
    async with open_room() as room:
        assert room.api is not None
        await asyncio.to_thread(room.api.end)
        few = SPARE + ROOM_FOR
        room.within = ("prlimit", f"--nofile={few}:{few}")
        await room.start_api()
        yield room


async def test_idle_and_half_open_connections_make_room_for_who_asks() -> None:
    async with narrow_room() as room:
        await room.register()
        beginnings = (b"", b"GET /functions HTTP/1.1\r\nHost: lo", b"POST /invokeFunction HT")
        with ExitStack() as stack:
            clients = []
            for number in range(5 * ROOM_FOR):
                client = stack.enter_context(connected(room, beginnings[number % 3]))
                clients.append(client)
                if number % ROOM_FOR == 0:
                    assert (await room.ask("GET", "/functions"))[0] == 200
            await soon(lambda: sum(map(is_over, clients)) >= 3 * ROOM_FOR)
            assert (await room.ask("GET", "/functions"))[0] == 200


async def test_who_waits_for_a_call_is_not_the_one_that_makes_room() -> None:
    async with narrow_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        waiting = asyncio.ensure_future(room.invoke("?wait=30"))
        start, _ = await worker.start()
        with ExitStack() as stack:
            clients = [stack.enter_context(connected(room)) for _ in range(3 * ROOM_FOR)]
            await soon(lambda: sum(map(is_over, clients)) >= ROOM_FOR)
            worker.result(start.call, start.attempt)
            status, call = await waiting
            assert (status, call["status"]) == (200, "DONE")


async def test_who_does_not_read_the_answer_is_hung_up_on() -> None:
    async with open_room("--upload-stall", "0.5") as room:
        await room.register()
        await room.worker()
        large = {"filling": "x" * 5_000_000}
        body = io.BytesIO(json.dumps({"funcName": "dice", "params": large}).encode())
        headers = {"Content-Type": "application/json"}
        _, call, _ = await room.ask("POST", "/invokeFunction", data=body, headers=headers)
        asks = f"GET /call/{call['callNum']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        before = descriptors(room)
        with ExitStack() as stack:
            clients = [
                stack.enter_context(connected(room, asks * 3, takes=4096)) for _ in range(10)
            ]
            await soon(lambda: descriptors(room) >= before + len(clients))
            await soon(lambda: descriptors(room) <= before, what="all were hung up on")
            assert (await room.ask("GET", f"/call/{call['callNum']}"))[1]["params"] == large
            assert clients
