"""Messages that leave together: packed and taken apart, in order; and what is no pack."""

from __future__ import annotations

import asyncio
import random

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import soon
from tests.wire.test_sockets import context, pair
from wire import packs
from wire.codec import FRAMES, HEADS, pack
from wire.errors import ProtocolError
from wire.sockets import Link, bind, open_socket

HEAD = HEADS[5]
SMALL, LARGE = b"x" * packs.SMALL_BYTES, b"y" * (packs.SMALL_BYTES + 1)
PAYLOADS = st.sampled_from((b"", b"a", SMALL, LARGE))
MESSAGES = st.lists(st.tuples(st.sampled_from(b"abc"), PAYLOADS), max_size=200)


@given(messages=MESSAGES, peers=st.sets(st.sampled_from(b"abc")))
def test_each_peer_gets_its_messages_in_their_order(
    messages: list[tuple[int, bytes]], peers: set[int]
) -> None:
    sent = [[b"%c" % to, HEAD, b"%d" % at, what] for at, (to, what) in enumerate(messages)]
    out = packs.packed(sent, {(b"%c" % peer,) for peer in peers})
    for to in b"abc":
        mine = [message for message in out if message[0] == b"%c" % to]
        assert to in peers or all(message[1] != packs.HEAD for message in mine)
        apart = [
            one
            for message in mine
            for one in (packs.unpacked(message) if message[1] == packs.HEAD else [message])
        ]
        assert apart == [message for message in sent if message[0] == b"%c" % to]
    # Packed again, as what could not be sent is, nothing comes to stand in another.
    again = packs.packed(out, {(b"%c" % peer,) for peer in peers})
    for message in again:
        if message[1] == packs.HEAD:
            assert all(one[1] != packs.HEAD for one in packs.unpacked(message))


def test_a_crowd_for_one_peer_becomes_few_messages() -> None:
    crowd = [(HEAD, b"h", b"p")] * (packs.MOST + 1)
    assert len(packs.packed(crowd, {()})) == 2
    assert packs.packed(crowd[:1], {()}) == [[HEAD, b"h", b"p"]]


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b"", b""),
        (pack("abc"), b""),
        (pack([5, 1]), b"h"),
        (pack([5, 1, 1]), b"h"),
        (pack([5, 1, 0]), b"hp"),
        (pack([5, 2, -1]), b"h"),
        (pack([5, -1, 2]), b"h"),
        (pack([500, 1, 0]), b"h"),
        (pack([5, 1.0, 0]), b"h"),
        (pack([5, None, 0]), b"h"),
        (pack({"a": 1}), b""),
    ],
)
async def test_what_is_no_pack_is_dropped_and_counted(header: bytes, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        packs.unpacked([packs.HEAD, header, payload])
    got: list[list[bytes]] = []
    with pair(FRAMES, got.append, lambda _: None) as (server, client, _):
        client.send([packs.HEAD, header, payload])
        client.send([HEAD, b"h", b"next"])
        await soon(lambda: got)
        assert [message[-1] for message in got] == [b"next"]
        assert server.drops.garbage == 1


async def test_bursts_of_both_sides_come_whole_and_in_order() -> None:
    rng = random.Random(11)
    sent = [[HEAD, b"%d" % at, rng.randbytes(rng.choice((0, 60, 20_000)))] for at in range(900)]
    got: list[list[bytes]] = []

    def echo(message: list[bytes]) -> None:
        server.pack_for(message[0])
        server.send(message)

    with pair(FRAMES, echo, got.append) as (server, client, _):
        for message in sent:
            client.send(message)
            if rng.random() < 0.1:
                await asyncio.sleep(0)
        await soon(lambda: len(got) == len(sent))
    assert got == sent


async def test_packs_go_only_to_who_knows_them() -> None:
    routes: list[bytes] = []
    with context() as made:
        router = open_socket(made, zmq.ROUTER)
        link = Link(router, 1 + FRAMES, lambda message: routes.append(message[0]))
        endpoint = bind(router, "tcp://127.0.0.1:*")
        old, new = made.socket(zmq.DEALER), made.socket(zmq.DEALER)
        await greeted(old, endpoint, routes, 1)
        await greeted(new, endpoint, routes, 2)
        link.pack_for(routes[1])
        burst(link, routes)
        assert [await heads(old), await heads(new)] == [9 * [HEAD], [packs.HEAD]]
        link.forget(routes[1])
        burst(link, routes)
        assert [await heads(old), await heads(new)] == [9 * [HEAD], 9 * [HEAD]]
        for each in (link, old, new):
            each.close()


async def test_after_a_crowded_turn_the_first_waits_for_the_others() -> None:
    routes: list[bytes] = []
    with context() as made:
        router = open_socket(made, zmq.ROUTER)
        link = Link(router, 1 + FRAMES, lambda message: routes.append(message[0]))
        peer = made.socket(zmq.DEALER)
        await greeted(peer, bind(router, "tcp://127.0.0.1:*"), routes, 1)
        link.pack_for(routes[0])

        async def turn(count: int) -> list[bytes]:
            for _ in range(count):
                link.send([routes[0], HEAD, b"h", b""])
            # The turn is over before another begins, however soon they come.
            await asyncio.sleep(0)
            return await heads(peer, count)

        assert await turn(1) == [HEAD]
        assert await turn(3) == [HEAD, packs.HEAD]
        assert await turn(3) == [packs.HEAD]
        assert await turn(1) == [HEAD]
        assert await turn(2) == [HEAD, HEAD]
        link.close()
        peer.close()


async def greeted(
    peer: zmq.Socket[bytes], endpoint: str, routes: list[bytes], count: int
) -> None:
    peer.linger = 0
    peer.connect(endpoint)
    peer.send_multipart([HEAD, b"", b""])
    await soon(lambda: len(routes) == count)


def burst(link: Link, routes: list[bytes]) -> None:
    """Send to nobody first, for what is first in a turn leaves alone."""
    link.send([b"nobody", HEAD, b"", b""])
    for route in routes * 9:
        link.send([route, HEAD, b"h", b""])


async def heads(peer: zmq.Socket[bytes], want: int = 9) -> list[bytes]:
    """Return the first frames of what brings so many messages."""
    came: list[bytes] = []
    count = 0
    while count < want:
        await soon(lambda: peer.poll(0))
        message = peer.recv_multipart()
        came.append(message[0])
        count += len(packs.unpacked(message)) if message[0] == packs.HEAD else 1
    assert count == want
    return came
