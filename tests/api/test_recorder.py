"""When the recorder writes, at a DB node whose answers the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq

from api import recorder
from api.outbox import Outbox
from api.recorder import Recorder
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
async def recording(durable: list[int]) -> AsyncIterator[tuple[Node, Recorder]]:
    """Run a recorder; ``durable`` gets the numbers of what is stored."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    node = Node(context)
    store = Store(context, node.endpoint)
    made = Recorder(
        store,
        Outbox(max_records=1000, max_bytes=1 << 20),
        api="a",
        epoch=1,
        on_durable=lambda num, _: durable.append(num),
    )
    running = asyncio.create_task(made.run())
    try:
        yield node, made
    finally:
        running.cancel()
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


async def test_the_next_of_many_collects_until_half_as_many_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # By the clock alone it would never end.
    monkeypatch.setattr(recorder, "COLLECT_S", 3600.0)
    now = iter(range(0, 1_000_000, 5000))
    monkeypatch.setattr(recorder, "boot_time", lambda: float(next(now)))
    durable: list[int] = []
    async with recording(durable) as (node, made):
        put(made, 1, 10)
        await soon(lambda: node.batches)
        node.answer()
        await soon(lambda: len(durable) == 10)
        put(made, 11, 4)
        # Nobody waits for these: they are no reason to go, and go along.
        put(made, 15, 3, urgent=False)
        await asyncio.sleep(0.1)
        assert len(node.batches) == 1
        put(made, 18, 1)
        await soon(lambda: len(node.batches) == 2)
        assert len(node.batches[1].records) == 8


async def test_a_collecting_one_does_not_hold_up_the_end() -> None:
    async with recording([]) as (node, made):
        put(made, 1, 10)
        await soon(lambda: node.batches)
        node.answer()
        put(made, 11, 1)
        flushed = asyncio.create_task(made.flushed(20))
        await soon(lambda: len(node.batches) == 2)
        node.answer()
        assert await flushed
