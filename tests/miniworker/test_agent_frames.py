"""Frames from an agent: split anywhere, damaged anyhow, and never more than allowed."""

from __future__ import annotations

import json
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniworker import agent
from miniworker.channel import Channel
from wire.errors import ProtocolError

LIMITS = agent.Limits()


def frame(header: object, body: bytes = b"") -> bytes:
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">II", len(packed), len(body)) + packed + body


RESULT = {"type": "result", "attempt": 1, "status": "DONE", "sizes": [3, 0, 0]}


@given(st.integers(1, 40))
def test_frames_may_come_in_pieces(size: int) -> None:
    reader = agent.FrameReader(LIMITS)
    data = frame({"type": "ready"}) + frame(RESULT, b"abc")
    found = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert [type(message) for message, _ in found] == [agent.Ready, agent.Result]
    assert found[1][1] == b"abc"


@pytest.mark.parametrize("size", [1, 3000, 5000, 262_144])
def test_a_large_body_in_pieces_is_whole_and_what_follows_it_too(size: int) -> None:
    body = bytes(range(256)) * 200
    reader = agent.FrameReader(LIMITS)
    data = frame(RESULT | {"sizes": [len(body), 0, 0]}, body) + frame({"type": "ready"})
    found = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert [(type(message), content) for message, content in found] == [
        (agent.Result, body),
        (agent.Ready, b""),
    ]
    assert " 0 bytes held" in repr(reader)


def test_frames_to_a_slow_agent_arrive_whole_and_in_order() -> None:
    near, far = socket.socketpair()
    channel = Channel(near, LIMITS)
    bodies = [b"first", b"\n".join(b"%d" % n for n in range(400_000)), b"", b"x" * 100_000]
    for attempt, body in enumerate(bodies):
        call = agent.Call(call=1, attempt=attempt, timeout_ms=1000, env={})
        channel.send(call, body)
    assert " 0 bytes to send" not in repr(channel)
    came = bytearray()
    while channel.has_more_to_send:
        came += far.recv(50_000)
        channel.flush()
    channel.close()
    while piece := far.recv(50_000):
        came += piece
    far.close()
    for attempt, body in enumerate(bodies):
        header, size = struct.unpack_from(">II", came)
        assert json.loads(came[8 : 8 + header])["attempt"] == attempt
        assert came[8 + header : 8 + header + size] == body
        del came[: 8 + header + size]
    assert not came


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"{" * 5000,
        {"type": "nonsense"},
        {"type": "ready", "more": 1},
        {**RESULT, "status": "RUNNING"},
        {**RESULT, "code": "invented"},
        {**RESULT, "sizes": [-1, 0, 0]},
        {**RESULT, "omitted": -1},
        {**RESULT, "attempt": "1"},
        {**RESULT, "peakMemory": 1 << 60},
    ],
)
def test_a_bad_header_is_refused(header: object) -> None:
    with pytest.raises(ProtocolError):
        agent.FrameReader(LIMITS).feed(frame(header))


def test_a_frame_that_is_too_large_is_refused_before_it_came() -> None:
    for lengths in ((agent.HEADER_BYTES + 1, 0), (10, LIMITS.body + 1)):
        with pytest.raises(ProtocolError):
            agent.FrameReader(LIMITS).feed(struct.pack(">II", *lengths))


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        agent.FrameReader(LIMITS).feed(data)
    except ProtocolError as error:
        assert error.message


@given(st.lists(st.integers(0, 50), max_size=4), st.binary(max_size=100))
def test_cut_gives_every_byte_or_refuses(sizes: list[int], body: bytes) -> None:
    try:
        parts = agent.cut(body, tuple(sizes))
    except ProtocolError:
        assert sum(sizes) != len(body)
    else:
        assert b"".join(parts) == body
        assert [len(part) for part in parts] == sizes
