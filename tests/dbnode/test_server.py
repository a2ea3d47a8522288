"""The server on real sockets in this process: batches, and what one request does to others."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq

from dbnode.desk import Asking, Desk
from dbnode.memory import MemoryStore
from dbnode.server import MAX_WAITING_BYTES, Asked, Server, take
from dbnode.store import Changes
from tests.conftest import soon
from tests.dbnode.samples import record
from wire import codec, errors, records
from wire.sockets import bind, open_socket


class GatedStore(MemoryStore):
    """A store whose commits wait at a gate, as at a slow disk."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.sizes: list[int] = []

    def commit(self, changes: Changes) -> None:
        self.sizes.append(len(changes.entries))
        assert self.gate.wait(30)
        super().commit(changes)


class BrokenStore(MemoryStore):
    """A store with a defect."""

    def commit(self, changes: Changes) -> None:  # noqa: ARG002
        raise RuntimeError("a defect")


@asynccontextmanager
async def serving(
    store: MemoryStore,
) -> AsyncIterator[tuple[zmq.Context[zmq.Socket[bytes]], str, Server]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = open_socket(context, zmq.ROUTER)
    endpoint = bind(socket, "tcp://127.0.0.1:*")
    server = Server(socket, Desk(store, "test"))
    stop = asyncio.Event()
    task = asyncio.create_task(server.serve(stop))
    try:
        yield context, endpoint, server
    finally:
        stop.set()
        await task
        context.destroy(linger=0)


def write(num: int) -> records.WriteCalls:
    return records.WriteCalls(api="api", epoch=1, records=(record(num),))


def req(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.REQ)
    socket.connect(endpoint)
    return socket


async def reply(socket: zmq.Socket[bytes]) -> bytes:
    await soon(lambda: socket.poll(0))
    return socket.recv()


async def test_what_arrives_during_a_commit_is_committed_together() -> None:
    store = GatedStore()
    async with serving(store) as (context, endpoint, server):
        first = req(context, endpoint)
        first.send(records.encode_request(write(1)))
        await soon(lambda: store.sizes == [1])
        others = [req(context, endpoint) for _ in range(20)]
        for num, socket in enumerate(others, 2):
            socket.send(records.encode_request(write(num)))
        rude = req(context, endpoint)
        rude.send(b"nonsense")
        await soon(lambda: "21 waiting" in repr(server))
        assert not first.poll(0), "answered before it was durable"
        store.gate.set()
        answers = [await reply(socket) for socket in (first, *others)]
        assert all(b'"ok":true' in each for each in answers)
        assert b"bad_request" in await reply(rude)
        assert store.sizes == [1, 20]


async def test_what_waits_for_a_disk_that_hangs_is_bounded_and_the_newest_is_answered() -> None:
    store = GatedStore()
    async with serving(store) as (context, endpoint, server):
        first = req(context, endpoint)
        first.send(records.encode_request(write(1)))
        await soon(lambda: store.sizes == [1])
        # As an api that gives up waiting and asks again, on a connection of its own each time.
        impatient = open_socket(context, zmq.DEALER)
        impatient.connect(endpoint)
        for _ in range(25):
            impatient.send_multipart([b"", bytes(MAX_WAITING_BYTES // 20)])
        await soon(lambda: server.dropped == 5)
        last = req(context, endpoint)
        last.send(records.encode_request(write(3)))
        await soon(lambda: server.dropped == 6)
        assert server.waiting == 20
        store.gate.set()
        assert b'"ok":true' in await reply(last)
        assert b'"ok":true' in await reply(first)


async def test_a_defect_is_answered_and_the_server_goes_on() -> None:
    async with serving(BrokenStore()) as (context, endpoint, _):
        socket = req(context, endpoint)
        socket.send(records.encode_request(write(1)))
        assert b'"internal"' in await reply(socket)
        socket.send(records.encode_request(records.Ping()))
        assert b'"ok":true' in await reply(socket)


def test_a_bad_request_fails_alone() -> None:
    desk = Desk(MemoryStore(), "test")
    others = records.WriteCalls(api="other", epoch=1, records=(record(1),))
    batch = [write(1), others, records.GetCall(call_num=9), write(2)]
    answers = desk.answer(batch)
    kinds = [type(answer) for answer in answers]
    written = records.CallsWritten
    assert kinds == [written, errors.BadRequest, errors.UnknownCall, written]


def test_a_write_with_one_bad_record_stores_none_of_it() -> None:
    desk = Desk(MemoryStore(), "test")
    desk.answer([records.WriteCalls(api="b", epoch=1, records=(record(2, api="b"),))])
    mixed = records.WriteCalls(api="api", epoch=1, records=(record(1), record(2, 2)))
    refused, unknown = desk.answer([mixed, records.GetCall(call_num=1)])
    assert isinstance(refused, errors.Conflict)
    assert isinstance(unknown, errors.UnknownCall)


@pytest.mark.parametrize("number", ["1e999", "123456789012345678901234567890"])
async def test_numbers_that_messagepack_cannot_say(number: str) -> None:
    async with serving(MemoryStore()) as (context, endpoint, _):
        socket = req(context, endpoint)
        one = record(1, params=f"[{number}]".encode())
        write_it = records.WriteCalls(api="api", epoch=1, records=(one,))
        socket.send(records.encode_request(write_it))
        assert b'"ok":true' in await reply(socket)
        get = {"msgType": "getCall", "content": {"callNum": 1}}
        socket.send(codec.pack(get))
        answer = codec.unpack(await reply(socket))
        assert answer["ok"] or answer["error"]["hint"] == "ask in JSON"
        socket.send(records.encode_request(records.GetCall(call_num=1)))
        assert f"[{number}]".encode() in await reply(socket)


def asked(peer: bytes, *requests: Asking) -> list[Asked]:
    return [Asked(peer, b"", request) for request in requests]


def test_a_change_waits_for_the_read_before_it_of_the_same_peer_alone() -> None:
    ping = records.Ping()
    waiting = deque([*asked(b"a", ping), *asked(b"b", write(1)), *asked(b"a", write(2), ping)])
    assert [each.peer for each in take(waiting)] == [b"a", b"b"]
    assert [each.request for each in take(waiting)] == [write(2), ping]
    assert not waiting
