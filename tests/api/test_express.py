"""Hot requests, which pass aiohttp by: which they are, and that nobody sees a difference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from api.express import Express, is_whole
from api.front import Front
from api.guard import Guard
from api.settings import Settings
from tests.api.room import Room, ScriptedWorker, open_room
from tests.conftest import soon

BODY = json.dumps({"funcName": "dice", "params": {"roll": "4d6"}}).encode()
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def head(path: str = "/invokeFunction?wait=30", size: int = len(BODY), **headers: str) -> bytes:
    """Return the head of a request; a header given as "" is left out."""
    said = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(size),
    }
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = (f"{name}: {value}\r\n" for name, value in said.items() if value)
    return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def express(**settings: Any) -> Express:
    """Return one that only reads heads."""
    guard = Guard(Settings(db="", data=Path(), **settings))
    return Express(cast("Front", None), guard)


def test_a_hot_head_says_all_there_is_to_know() -> None:
    seen = express().head(head("/invokeFunction?wait=2.5", 17, traceparent=PARENT))
    assert seen is not None
    assert (seen.length, seen.wait_s, seen.trace.parent) == (17, 2.5, PARENT)
    for path, prefer, wait_s in (
        ("/invokeFunction", "", 0.0),
        ("/invokeFunction?wait=0", "wait=9", 0.0),
        ("/invokeFunction", "respond-async, wait=9", 9.0),
        ("/invokeFunction", "wait=9999", 300.0),
    ):
        seen = express().head(head(path, Prefer=prefer))
        assert seen is not None
        assert seen.wait_s == wait_s
    assert express().head(head(Connection="Keep-Alive")) is not None
    lower = head().replace(b"Content-Type", b"content-TYPE").replace(b"Host: ", b"hOST:")
    assert express().head(lower) is not None


@pytest.mark.parametrize(
    "raw",
    [
        head(Transfer_Encoding="chunked"),
        head(Expect="100-continue"),
        head(Connection="close"),
        head(Connection="keep-alive, upgrade"),
        head(Upgrade="websocket"),
        head(Origin="http://127.0.0.1"),
        head(Sec_Fetch_Site="same-origin"),
        head(Idempotency_Key="k"),
        head(Content_Encoding="gzip"),
        head(Content_Type="text/plain"),
        head(Content_Type="application/json; charset=utf-8"),
        head(Content_Length=""),
        head(Content_Length="-1"),
        head(Content_Length="1_0"),
        head(Host=""),
        head(Host="evil.example.com"),
        head(Padding="x" * 4096),
        head("/invokeFunction?wait=301"),
        head("/invokeFunction?wait=x"),
        head("/invokeFunction?wait=1&wait=2"),
        head("/invokeFunctions"),
        head("/invokeFunction/"),
        head().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head().replace(b"POST", b"PUT"),
        head().replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\nX:\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\nX : y\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\nX: \xff\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\nX: a\x00b\r\n\r\n"),
        head().replace(b"\r\n", b"\n"),
        head() + b"\r\n",
    ],
)
def test_what_leaves_a_question_open_is_not_hot(raw: bytes) -> None:
    assert express().head(raw) is None


def test_a_token_is_asked_for_and_other_hosts_may_be_named_beyond_loopback() -> None:
    guarded = express(token="secret", host="0.0.0.0")
    assert guarded.head(head(Host="skep.example.com")) is None
    assert guarded.head(head(Authorization="Bearer wrong")) is None
    right = head(Host="skep.example.com", Authorization="Bearer secret")
    assert guarded.head(right) is not None


def test_a_body_that_has_to_be_refused_is_not_hot() -> None:
    body = express().body(BODY)
    assert body is not None
    assert bytes(body.params) == b'{"roll": "4d6"}'
    deep = b'{"funcName":"dice","params":' + b"[" * 500 + b"]" * 500 + b"}"
    for raw in (b"", b"{", b"[]", b'{"funcName":"dice","x":1}', b"\xff", deep):
        assert express().body(raw) is None


def test_a_whole_request_is_one_beyond_doubt() -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for whole in (get, head(size=3) + b"abc", head(Origin="http://x", size=0)):
        assert is_whole(whole)
    for other in (
        get[:-1],
        get + get,
        head(size=3) + b"ab",
        head(size=3) + b"abcd",
        head("/", Content_Length="9" * 5000),
        head(Transfer_Encoding="chunked", size=0),
        head(Expect="100-continue", size=0),
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
        b"\x16\x03\x01",
    ):
        assert not is_whole(other)


class Client:
    """One connection to an api, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes, pause_s: float = 0.02) -> None:
        """Send pieces that arrive one after the other."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(pause_s)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and body of the next answer."""
        raw = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        first, *lines = raw.decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self._reader.readexactly(int(headers["Content-Length"]))
        return int(first.split()[1]), headers, json.loads(body)

    async def is_hung_up(self) -> bool:
        """Return whether nothing more comes."""
        return await asyncio.wait_for(self._reader.read(1), 30) == b""

    def close(self) -> None:
        self._writer.close()


async def connect(room: Room) -> Client:
    at = urlsplit(room.url)
    return Client(*await asyncio.open_connection(at.hostname, at.port))


async def echo(worker: ScriptedWorker) -> None:
    """Answer each call with its params."""
    while True:
        start, params = await worker.start()
        worker.result(start.call, start.attempt, params)
        worker.credit(4, dice=4)


@asynccontextmanager
async def open_echo(*options: str) -> AsyncIterator[tuple[Room, Client]]:
    async with open_room(*options) as room:
        await room.register()
        worker = await room.worker()
        worker.credit(4, dice=4)
        answering = asyncio.ensure_future(echo(worker))
        client = await connect(room)
        try:
            yield room, client
        finally:
            client.close()
            answering.cancel()


async def test_an_answer_is_the_one_that_aiohttp_gives() -> None:
    async with open_echo() as (_, client):
        for path in ("/invokeFunction?wait=30", "/invokeFunction"):
            answers = []
            for origin in ("", "http://127.0.0.1", ""):
                await client.send(head(path, Origin=origin) + BODY)
                status, headers, record = await client.answer()
                alike = {
                    k: v for k, v in headers.items() if k not in ("Date", "Content-Length")
                }
                alike.pop("Location", None)
                answers.append((status, alike, record.keys(), record["funcName"]))
                if status == 202:
                    assert headers["Location"] == f"/call/{record['callNum']}"
                else:
                    assert json.loads(record["result"]) == {"roll": "4d6"}
            assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == 202


async def test_requests_may_come_in_pieces_and_behind_one_another() -> None:
    async with open_echo() as (_, client):
        whole, size = head() + BODY, len(head())
        for cut in (1, 10, 22, size - 2, size, size + 5, len(whole) - 1):
            await client.send(whole[:cut], whole[cut:])
            assert (await client.answer())[0] == 200
        # One that lets others wait for the rest is aiohttp's, and so is all that follows.
        await client.send(whole[:-3], whole[-3:] + whole, pause_s=0.5)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]


async def test_answers_come_in_the_order_of_requests_whoever_gives_them() -> None:
    async with open_echo() as (room, client):
        bodies = [b'{"funcName":"dice","params":%d}' % n for n in range(40)]
        hot = [head(size=len(body)) + body for body in bodies]
        get = b"GET /functions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await client.send(b"".join(hot))
        results = [(await client.answer())[2]["result"] for _ in hot]
        assert results == [str(n) for n in range(40)]
        # Between two whole requests a connection changes hands, to and fro.
        for _ in range(3):
            await client.send(get)
            assert (await client.answer())[2] == ["dice"]
            await client.send(hot[7])
            assert (await client.answer())[2]["result"] == "7"
        await client.send(hot[1] + get + hot[2] + get)
        seen = [(await client.answer())[2] for _ in range(4)]
        assert (seen[0]["result"], seen[1], seen[2]["result"], seen[3]) == (
            "1",
            ["dice"],
            "2",
            ["dice"],
        )
        other = await connect(room)
        await other.send(get + hot[3])
        assert (await other.answer())[2] == ["dice"]
        assert (await other.answer())[2]["result"] == "3"
        other.close()


async def test_what_is_refused_leaves_the_connection_as_it_was() -> None:
    async with open_echo("--max-params", "200000") as (_, client):
        long = json.dumps({"funcName": "dice", "params": "x" * 100_000}).encode()
        too_long = json.dumps({"funcName": "dice", "params": "x" * 300_000}).encode()
        for body, status in (
            (b'{"funcName":"dice","x":1}', 400),
            (BODY, 200),
            (b'{"funcName":"nope"}', 404),
            (BODY, 200),
            (long, 200),
            (BODY, 200),
            (too_long, 413),
            (BODY, 200),
        ):
            await client.send(head(size=len(body)) + body)
            seen, _, answer = await client.answer()
            assert seen == status, answer
            if status != 200:
                assert set(answer["error"]) == {"code", "message", "hint"}
        chunked = head(Content_Length="", Transfer_Encoding="chunked")
        await client.send(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert (await client.answer())[0] == 200
        await client.send(head(Connection="close") + BODY)
        assert (await client.answer())[0] == 200
        assert await client.is_hung_up()


async def test_a_wait_that_ends_is_a_promise_and_nobody_has_to_stay_for_it() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(4, dice=4)
        client, gone = await connect(room), await connect(room)
        await client.send(head("/invokeFunction?wait=0.2") + BODY)
        status, headers, record = await client.answer()
        assert (status, record["status"]) == (202, "RUNNING")
        assert headers["Location"] == f"/call/{record['callNum']}"
        start, _ = await worker.start()
        worker.result(start.call, start.attempt)
        # Who hangs up meanwhile loses the answer, and the call goes on.
        await gone.send(head() + BODY)
        start, _ = await worker.start()
        gone.close()
        worker.result(start.call, start.attempt)

        async def ended() -> bool:
            _, seen, _ = await room.ask("GET", f"/call/{start.call}")
            return bool(seen["status"] == "DONE")

        await soon(ended)
        # A stop lets nobody wait: the promise is kept by the next life.
        await client.send(head() + BODY)
        await worker.start()
        assert room.api is not None
        ending = asyncio.ensure_future(asyncio.to_thread(room.api.end))
        assert (await client.answer())[0] == 202
        assert await client.is_hung_up()
        client.close()
        assert await ending == 0


async def test_requests_without_end_are_answered_as_their_client_reads() -> None:
    async with open_echo() as (_, client):
        body = json.dumps({"funcName": "dice", "params": "x" * 4000}).encode()
        count, request = 100, head(size=len(body)) + body
        sending = asyncio.ensure_future(client.send(request * count))
        numbers = [(await client.answer())[2]["callNum"] for _ in range(count)]
        await sending
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == count
