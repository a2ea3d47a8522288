"""How an agent is waited for, on real descriptors."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import cast

import msgspec
import pytest

from miniworker import agent
from miniworker.channel import Channel
from miniworker.meeting import agree, await_readable
from miniworker.sandbox import NoSandbox, Sandbox
from wire.models import Fault

INIT = agent.Init(
    path="/f",
    bundle="/b",
    run="",
    entry="main",
    isolation="none",
    env={},
    limits=agent.Limits(),
)


def test_the_last_words_of_an_agent_that_ended_are_heard() -> None:
    hears, says = os.pipe()

    def ends() -> bool:
        """Say something in the moment between the look for words and the look for its end."""
        os.write(says, b"broken")
        return True

    try:
        await_readable(hears, time.monotonic() + 20, ends)
        assert os.read(hears, 100) == b"broken"
    finally:
        os.close(hears)
        os.close(says)


@pytest.mark.parametrize(("has_ended", "says"), [(True, "ended"), (False, "not ready in time")])
def test_who_says_nothing_is_waited_for_until_its_end_or_the_limit(
    has_ended: bool, says: str
) -> None:
    hears, silent = os.pipe()
    try:
        with pytest.raises(NoSandbox, match=says):
            await_readable(hears, time.monotonic() + 0.2, lambda: has_ended)
    finally:
        os.close(hears)
        os.close(silent)


class Container:
    """One whose agent says ``words`` and ends while its engine is asked whether it runs."""

    def __init__(self, line: socket.socket, words: bytes) -> None:
        self._line = line
        self._words = words

    def has_ended(self) -> bool:
        self._line.recv(1 << 16)
        self._line.sendall(self._words)
        self._line.close()
        raise NoSandbox("the agent ended with status 0")


def broken() -> bytes:
    message = agent.Broken(fault="function", code="entry_not_found", message="no main")
    header = msgspec.json.encode(message)
    return struct.pack(">II", len(header), 4) + header + b"oops"


@pytest.mark.parametrize(
    ("words", "fault", "says"),
    [
        (broken(), Fault.FUNCTION, "no main"),
        (broken()[:-1], Fault.NODE, "ended with status 0"),
        (b"", Fault.NODE, "ended with status 0"),
    ],
)
def test_the_last_words_count_more_than_how_the_container_ended(
    words: bytes, fault: Fault, says: str
) -> None:
    ours, theirs = socket.socketpair()
    control = Channel(ours, agent.Limits())
    sandbox = cast("Sandbox", Container(theirs, words))
    try:
        with pytest.raises(NoSandbox, match=says) as raised:
            agree(control, INIT, None, sandbox)
    finally:
        control.close()
    assert raised.value.fault is fault
