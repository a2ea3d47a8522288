"""When the recorder writes, at a DB node whose answers the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import zmq

from api.outbox import Outbox
from api.recorder import LAZY_S, Recorder, pause_s
from api.store import Store
from tests.api.model import live
from tests.conftest import soon
from wire.records import CallsWritten, WriteCalls, decode_request, encode_reply
from wire.sockets import Link, bind, open_socket


class Node:
    """A DB node that answers when it is told to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        socket = open_socket(context, zmq.ROUTER)
        self.endpoint = bind(socket, "tcp://127.0.0.1:*")
        self.batches: list[WriteCalls] = []
        self._peer = b""
        self._link = Link(socket, 3, self._asked)

    def _asked(self, frames: list[bytes]) -> None:
        request = decode_request(frames[2])
        assert isinstance(request, WriteCalls)
        self._peer = frames[0]
        self.batches.append(request)

    def answer(self) -> None:
        """Acknowledge the newest batch."""
        records = self.batches[-1].records
        acks = tuple((record.call.call_num, record.rev) for record in records)
        self._link.send((self._peer, b"", encode_reply(CallsWritten(acks=acks))))

    def close(self) -> None:
        self._link.close()


@asynccontextmanager
async def recording(
    durable: list[int],
    pause: Callable[[float], float] = pause_s,
    lazy_s: float = LAZY_S,
) -> AsyncIterator[tuple[Node, Recorder]]:
    """Run a recorder; ``durable`` gets the numbers of what is stored."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    node = Node(context)
    store = Store(context, node.endpoint)
    made = Recorder(
        store,
        Outbox(max_records=10_000, max_bytes=1 << 30),
        api="a",
        epoch=1,
        on_durable=lambda num, _: durable.append(num),
        pause_s=pause,
        lazy_s=lazy_s,
    )
    running = asyncio.create_task(made.run())
    try:
        yield node, made
    finally:
        running.cancel()
        (end,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end
        made.close()
        store.close()
        node.close()
        context.term()


def put(made: Recorder, first: int, count: int, *, urgent: bool = True) -> None:
    """Put so many new calls, from this number on."""
    for num in range(first, first + count):
        one = live(num)
        one.rev = 1
        made.put(one, urgent=urgent)


async def test_who_waits_alone_is_written_at_once_and_a_crowd_together() -> None:
    durable: list[int] = []
    async with recording(durable) as (node, made):
        put(made, 1, 1)
        await soon(lambda: node.batches)
        # What comes while one is under way goes together.
        put(made, 2, 5)
        node.answer()
        await soon(lambda: len(node.batches) == 2)
        assert len(node.batches[1].records) == 5
        node.answer()
        await soon(lambda: durable == [1, 2, 3, 4, 5, 6])


def for_ever(_: float) -> float:
    """By the clock alone no pause would ever end."""
    return 3600.0


async def begin_a_pause(
    node: Node, made: Recorder, durable: list[int], count: int = 10, *, urgent: bool = True
) -> None:
    """Have so many calls stored, from number 1 on: what follows is collected."""
    put(made, 1, count, urgent=urgent)
    await soon(lambda: node.batches)
    node.answer()
    await soon(lambda: len(durable) == count)


async def test_the_next_of_many_collects_until_half_as_many_are_there() -> None:
    durable: list[int] = []
    async with recording(durable, for_ever) as (node, made):
        await begin_a_pause(node, made, durable)
        put(made, 11, 4)
        # Nobody waits for these: they are no reason to go, and go along.
        put(made, 15, 3, urgent=False)
        await asyncio.sleep(0.1)
        assert len(node.batches) == 1
        put(made, 18, 1)
        await soon(lambda: len(node.batches) == 2)
        assert len(node.batches[1].records) == 8


async def test_who_is_the_only_one_that_waits_ends_the_pause() -> None:
    durable: list[int] = []
    async with recording(durable, for_ever, lazy_s=3600.0) as (node, made):
        await begin_a_pause(node, made, durable, count=200, urgent=False)
        put(made, 201, 1)
        await soon(lambda: len(node.batches) == 2)


async def test_what_one_batch_could_not_take_goes_with_the_next_at_once() -> None:
    durable: list[int] = []
    async with recording(durable, for_ever, lazy_s=3600.0) as (node, made):
        # Its clock would be that of what is left, too.
        put(made, 1, 1, urgent=False)
        put(made, 2, 1200)
        await soon(lambda: node.batches)
        first = len(node.batches[0].records)
        assert first < 1201
        node.answer()
        await soon(lambda: len(node.batches) == 2)
        assert len(node.batches[1].records) == 1201 - first


async def test_a_pause_ends_when_all_is_to_be_stored() -> None:
    durable: list[int] = []
    async with recording(durable, for_ever) as (node, made):
        await begin_a_pause(node, made, durable)
        put(made, 11, 1)
        flushed = asyncio.create_task(made.flushed(20))
        await soon(lambda: len(node.batches) == 2)
        node.answer()
        assert await flushed
