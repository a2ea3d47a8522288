"""The line to the api on a clock that the test owns: suspension, silence, strangers' bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from tests.conftest import soon
from tests.worker.scripted import ScriptedApi
from wire import messages as m
from wire.codec import Message, Payload
from worker.uplink import Uplink


class Ears:
    """Hears what a node would hear."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.messages: list[Message] = []
        self.bytes = 0

    def hello(self) -> m.Hello:
        return m.Hello(
            node_id="id", boot="boot", name="n1", pid=1, version="1", slots=1,
            sandbox="fake", isolation="none",
        )  # fmt: skip

    def opened(self, welcome: m.Welcome) -> None:
        self.said.append(f"opened {welcome.session}")

    def lost(self, *, slept: bool) -> None:
        self.said.append("slept" if slept else "lost")

    def heard(self, message: Message, payload: Payload) -> None:
        self.messages.append(message)
        self.bytes += len(payload)

    def hint(self, message: Message) -> None:
        self.messages.append(message)


class Line:
    """An uplink to an api by script, and the clock it goes by."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.api = ScriptedApi()
        self.ears = Ears()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        clock = lambda: self.now  # noqa: E731
        self.uplink = Uplink(self.context, self.api.endpoint, self.api.pub, self.ears, clock)

    async def open(self, session: int = 1) -> None:
        self.uplink.start()
        await self.api.welcome(session=session)
        await soon(lambda: self.ears.messages)


@contextmanager
def line() -> Iterator[Line]:
    one = Line()
    try:
        yield one
    finally:
        one.uplink.close()
        one.context.term()
        one.api.close()


async def test_a_start_that_came_while_the_process_stood_still_is_not_heard() -> None:
    with line() as one:
        await one.open()
        one.now += 11
        one.api.start(1)
        await soon(lambda: "slept" in one.ears.said)
        assert not any(isinstance(message, m.Start) for message in one.ears.messages)
        await one.api.welcome(session=2)
        await soon(lambda: "opened 2" in one.ears.said)
        one.api.start(2)
        await soon(lambda: any(isinstance(message, m.Start) for message in one.ears.messages))


async def test_a_silent_api_is_lost_and_joined_anew() -> None:
    with line() as one:
        await one.open()
        for _ in range(10):
            one.now += 1
            one.uplink.tick()
        assert one.ears.said == ["opened 1", "lost"]
        await one.api.welcome(session=2)
        await soon(lambda: one.ears.said[-1] == "opened 2")


async def test_a_message_of_another_session_is_not_heard() -> None:
    with line() as one:
        await one.open()
        one.api.session = 7
        one.api.start(1)
        one.api.session = 1
        one.api.start(2)
        await soon(lambda: any(isinstance(message, m.Start) for message in one.ears.messages))
        starts = [message for message in one.ears.messages if isinstance(message, m.Start)]
        assert [start.call for start in starts] == [2]


async def test_a_publication_is_a_hint() -> None:
    with line() as one:
        await one.open()
        hint = m.Catalogue(session=0, epoch="e", after=1, seq=2)

        def published() -> bool:
            # A subscription takes a moment to reach the publisher.
            one.api.publish(m.TOPIC_CATALOGUE, hint)
            return hint in one.ears.messages

        await soon(published)
