"""Clients measure what a server made them wait, whatever it answers with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.load import Load, Run, measure

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"
)
STALL_S = 0.4


@asynccontextmanager
async def serving(answer: Callable[[int], bytes], stalls_at: int = -1) -> AsyncIterator[str]:
    """Serve over real sockets; one request in all is answered late."""
    asked = 0
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        writers.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            asked += 1
            if asked == stalls_at:
                await asyncio.sleep(STALL_S)
            whole = answer(asked)
            # In two pieces: an answer need not come whole.
            writer.write(whole[:10])
            await asyncio.sleep(0)
            writer.write(whole[10:])

    async def bear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(bear, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
async def test_all_calls_are_asked_and_measured(answer: bytes) -> None:
    async with serving(lambda _: answer) as url:
        found = await Run(Load(url, b"{}", clients=3, calls=20)).run()
    assert len(found["latencies"]) == 20
    assert all(0 < each <= found["seconds"] for each in found["latencies"])


async def test_a_wrong_answer_is_no_fast_one() -> None:
    def answer(number: int) -> bytes:
        return PLAIN if number < 3 else PLAIN.replace(b"200 OK", b"500 No")

    async with serving(answer) as url:
        with pytest.raises(RuntimeError, match="500 No"):
            await Run(Load(url, b"{}", calls=20)).run()


async def test_every_call_of_a_batch_must_be_in_its_answer() -> None:
    async with serving(lambda _: CHUNKED) as url:
        load = Load(url, b"{}", calls=2, every=b"abc", times=2)
        assert len((await Run(load).run())["latencies"]) == 2
        with pytest.raises(RuntimeError):
            await Run(Load(url, b"{}", calls=2, every=b"abc", times=3)).run()


async def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """A closed loop of one client meets a stall once; what was due meanwhile met it too."""
    async with serving(lambda _: PLAIN, stalls_at=10) as url:
        closed = await Run(Load(url, b"{}", calls=60)).run()
    async with serving(lambda _: PLAIN, stalls_at=10) as url:
        opened = await Run(Load(url, b"{}", calls=60, rate=100)).run()
    late = [
        sum(each > STALL_S / 2 for each in found["latencies"]) for found in (closed, opened)
    ]
    assert late[0] == 1
    assert late[1] >= 10


async def test_a_load_runs_in_a_process_of_its_own() -> None:
    large = b'"' + b"x" * 1_000_000 + b'"'
    async with serving(lambda _: PLAIN) as url:
        found = await asyncio.to_thread(measure, Load(url, large, calls=3))
    assert len(found["latencies"]) == 3
