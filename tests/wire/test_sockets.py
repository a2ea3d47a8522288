"""The link on real sockets: nothing lost under load, strangers' frames shift nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from tests.conftest import soon
from wire.codec import Payload
from wire.errors import BadRequest
from wire.sockets import (
    BURST,
    LENT_BYTES,
    MAX_UNREAD,
    Link,
    OnMessage,
    Relay,
    bind,
    open_socket,
    remove_file,
)

Context = zmq.Context[zmq.Socket[bytes]]


@contextmanager
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


@contextmanager
def pair(
    frames: int, on_router: OnMessage, on_dealer: OnMessage
) -> Iterator[tuple[Link, Link, str]]:
    """A ROUTER and a DEALER on loopback, each on a Link."""
    with context() as made:
        router, dealer = open_socket(made, zmq.ROUTER), open_socket(made, zmq.DEALER)
        endpoint = bind(router, "tcp://127.0.0.1:*")
        dealer.connect(endpoint)
        server = Link(router, frames + 1, on_router)
        client = Link(dealer, frames, on_dealer)
        try:
            yield server, client, endpoint
        finally:
            server.close()
            client.close()


async def test_bursts_in_both_directions_lose_nothing() -> None:
    rng = random.Random(7)
    sent = [rng.randbytes(rng.choice((1, 100, 20_000))) for _ in range(4 * BURST)]
    got: list[bytes] = []
    with pair(2, lambda m: server.send([*m]), lambda m: got.append(m[1])) as (
        server,
        client,
        _,
    ):
        todo = list(sent)
        while todo:
            for _ in range(rng.randint(1, 50)):
                if todo:
                    client.send([b"head", todo.pop(0)])
            await asyncio.sleep(0)
        await soon(lambda: len(got) == len(sent))
    assert got == sent


async def test_a_handler_that_raises_does_not_stop_the_stream() -> None:
    got: list[bytes] = []

    def handle(message: list[bytes]) -> None:
        if message[1] == b"bad":
            raise ValueError("bad")
        got.append(message[1])

    with pair(1, handle, lambda _: None) as (_, client, _):
        for word in (b"one", b"bad", b"two"):
            client.send([word])
        await soon(lambda: got == [b"one", b"two"])


async def test_wrong_frame_counts_shift_nothing_and_are_counted() -> None:
    got: list[list[bytes]] = []
    rng = random.Random(3)
    with pair(3, got.append, lambda _: None) as (server, _, endpoint), context() as made:
        stranger = made.socket(zmq.DEALER)
        stranger.linger = 0
        stranger.connect(endpoint)
        wrong = 0
        for number in range(200):
            count = rng.choice((1, 2, 3, 3, 4, 9))
            wrong += count != 3
            stranger.send_multipart([b"%d" % number] + [rng.randbytes(9)] * (count - 1))
        await soon(lambda: len(got) + server.drops.frames == 200)
        assert server.drops.frames == wrong
        assert all(len(message) == 4 for message in got)
        stranger.close()


async def test_what_cannot_be_routed_is_counted_and_blocks_nobody() -> None:
    got: list[bytes] = []
    with pair(1, lambda m: heard.append(m[0]), lambda m: got.append(m[0])) as (
        server,
        client,
        _,
    ):
        heard: list[bytes] = []
        client.send([b"hello"])
        await soon(lambda: heard)
        server.send([b"nobody", b"x"])
        server.send([heard[0], b"you"])
        await soon(lambda: got == [b"you"])
        assert server.drops.unroutable == 1


def test_what_is_not_read_makes_its_sender_wait_and_is_not_lost() -> None:
    with context() as made:
        router, flood = open_socket(made, zmq.ROUTER), made.socket(zmq.DEALER)
        flood.set(zmq.SNDHWM, 1)
        flood.connect(bind(router, "tcp://127.0.0.1:*"))
        # Large enough that what kernels hold of them is little.
        sent, filler = 0, bytes(4096)
        while sent < 2 * MAX_UNREAD and flood.poll(1000, zmq.POLLOUT):
            flood.send_multipart([b"%d" % sent, filler])
            sent += 1
        assert MAX_UNREAD <= sent < 2 * MAX_UNREAD
        for number in range(sent):
            assert router.recv_multipart()[1] == b"%d" % number


async def test_messages_before_the_link_are_read() -> None:
    got: list[list[bytes]] = []
    with context() as made:
        pull, push = open_socket(made, zmq.PULL), open_socket(made, zmq.PUSH)
        push.connect(bind(pull, "tcp://127.0.0.1:*"))
        push.send(b"early")
        await soon(lambda: pull.poll(0))
        link = Link(pull, 1, got.append)
        await soon(lambda: got == [[b"early"]])
        link.close()
        link.close()
        link.send([b"dropped"])
        push.close()


async def test_a_taken_address_is_an_error_that_names_it() -> None:
    with context() as made:
        one, two = open_socket(made, zmq.ROUTER), open_socket(made, zmq.ROUTER)
        endpoint = bind(one, "tcp://127.0.0.1:*")
        with pytest.raises(BadRequest, match=endpoint):
            bind(two, endpoint)


def test_ipc_paths_may_be_relative_and_not_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    with context() as made:
        socket = open_socket(made, zmq.ROUTER)
        bind(socket, "ipc://run/workers")
        assert (deep / "run" / "workers").is_socket()
        with pytest.raises(BadRequest, match="longer than 107 bytes"):
            bind(socket, f"ipc://{deep}/run/other")
        bind(socket, "ipc://run/others")
    remove_file("ipc://run/workers")
    assert [path.name for path in (deep / "run").iterdir()] == ["others"]
    remove_file("ipc://run/others")
    remove_file("tcp://127.0.0.1:3003")
    assert not (deep / "run").exists()


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:99999", "tcp://127.0.0.1:30x", "tcp://127.0.0.1", "127.0.0.1:3003", ""],
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    refused = pytest.raises(BadRequest, match="no address to listen on")
    with context() as made, open_socket(made, zmq.ROUTER) as socket, refused:
        bind(socket, endpoint)


async def test_who_passes_on_large_frames_sends_them_from_where_they_came() -> None:
    sent = [b"small", bytes(range(256)) * 1024, b"x" * (LENT_BYTES - 1)]
    lent: list[Payload] = []
    got: list[bytes] = []

    def pass_on(message: list[Payload]) -> None:
        lent.extend(message)
        relay.send(message)
        # Later, and a piece of it alone.
        loop.call_soon(relay.send, [message[0][1:]])

    loop = asyncio.get_running_loop()
    with context() as made:
        there, here = open_socket(made, zmq.PAIR), open_socket(made, zmq.PAIR)
        endpoint = bind(there, "tcp://127.0.0.1:*")
        here.connect(endpoint)
        relay = Relay(there, 1, pass_on)
        client = Link(here, 1, lambda message: got.append(message[0]))
        for each in sent:
            client.send([each])
        await soon(lambda: len(got) == 2 * len(sent))
        relay.close()
        client.close()
    assert sorted(got, key=bytes) == sorted([*sent, *(each[1:] for each in sent)])
    assert [isinstance(each, memoryview) for each in lent] == [False, True, False]
