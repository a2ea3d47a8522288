"""The wires themselves: what passes whole, what is late, what is lost, what is seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.faults.wires import Parser, Watch, Wires, name_of
from wire import codec, records
from wire.messages import Recorded
from wire.sockets import open_socket

SHORT_MS = 300
LONG_MS = 10_000


@pytest.fixture
def wires() -> Iterator[Wires]:
    with tempfile.TemporaryDirectory(prefix="skep-wires-", dir="/tmp") as folder:
        Path(folder, "run").mkdir()
        made = Wires(Path(folder), Path(folder, "run"), 1)
        yield made
        made.close()


@pytest.fixture
def ends(wires: Wires) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """An api's ROUTER, and a worker's DEALER whose wire leads to it."""
    with zmq.Context() as context:
        router, dealer = open_socket(context, zmq.ROUTER), open_socket(context, zmq.DEALER)
        with router, dealer:
            router.bind(f"ipc://{wires.folder}/run/workers")
            dealer.connect(f"ipc://{wires.folder}/node1")
            yield router, dealer


def arrives(socket: zmq.Socket[bytes], within_ms: int = LONG_MS) -> list[bytes] | None:
    return socket.recv_multipart() if socket.poll(within_ms) else None


def test_messages_pass_whole_both_ways(
    wires: Wires, ends: tuple[zmq.Socket[bytes], ...]
) -> None:
    router, dealer = ends
    large = bytes(1 << 20)
    dealer.send_multipart([b"a", b"", large])
    route, *frames = arrives(router) or []
    assert frames == [b"a", b"", large]
    router.send_multipart([route, *codec.encode(Recorded(session=1, upto=2))])
    assert arrives(dealer) is not None
    assert wires.passed("node1", "Recorded") == 1


def test_what_is_held_comes_late_and_in_order(
    wires: Wires, ends: tuple[zmq.Socket[bytes], ...]
) -> None:
    router, dealer = ends
    dealer.send(b"0")
    assert arrives(router)
    wires.hold("node1")
    dealer.send(b"1")
    dealer.send(b"2")
    assert arrives(router, SHORT_MS) is None
    wires.release("node1")
    assert [(arrives(router) or [])[1], (arrives(router) or [])[1]] == [b"1", b"2"]


def test_what_is_under_way_in_a_broken_connection_is_lost(
    wires: Wires, ends: tuple[zmq.Socket[bytes], ...]
) -> None:
    router, dealer = ends
    dealer.send(b"0")
    route = (arrives(router) or [])[0]
    wires.hold("node1")
    dealer.send(b"lost")
    assert arrives(router, SHORT_MS) is None
    wires.cut("node1")
    wires.release("node1")
    dealer.send(b"waits")
    assert arrives(router, SHORT_MS) is None
    wires.mend("node1")
    again, said = arrives(router) or []
    assert (said, again != route) == (b"waits", True)


def test_something_is_done_before_or_after_a_message_or_instead_of_it(
    wires: Wires, ends: tuple[zmq.Socket[bytes], ...]
) -> None:
    router, dealer = ends
    dealer.send(b"0")
    route = (arrives(router) or [])[0]
    order: list[str] = []
    for before, after in ((None, lambda: order.append("after")), (lambda: True, lambda: None)):
        watch = Watch("Recorded", "back", before or (lambda: order.append("before")), after)
        wires.watch("node1", watch)
        router.send_multipart([route, *codec.encode(Recorded(session=1, upto=1))])
        assert watch.done.wait(10)
    router.send_multipart([route, b"last"])
    assert (arrives(dealer) or [])[0][0] == codec.MAGIC
    assert arrives(dealer) == [b"last"]
    assert order == ["before", "after"]


def test_names_are_those_of_the_protocol() -> None:
    assert name_of([*codec.encode(Recorded(session=1, upto=2))], "back") == "Recorded"
    assert name_of([b"", records.encode_request(records.Ping())], "there") == "ping"
    assert name_of([b"", b'{"msgType": "getCall", "content": 1}'], "there") == "getCall"
    assert name_of([b"", b'{"ok": true}'], "back") == ""


def test_messages_are_cut_wherever_the_bytes_break() -> None:
    sent = bytes(64) + b"\x04\x01c" + b"\x01\x01a" + b"\x02" + (300).to_bytes(8, "big")
    sent += bytes(300)
    for step in (1, 7, len(sent)):
        parser = Parser()
        pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
        passed = [one for piece in pieces for one in parser.feed(piece)]
        assert b"".join(whole for whole, _ in passed) == sent
        assert [frames for _, frames in passed if frames] == [[b"a", bytes(300)]]
