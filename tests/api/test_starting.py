"""An api that starts while its nodes are already there, and its store is slow."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import zmq

from tests.api.room import Room, open_room
from tests.conftest import soon
from wire.sockets import Link, bind, open_socket

#: Long enough for a node whose HELLO would be answered at once.
SOON_S = 0.5


class Holding:
    """Stands before the DB node and keeps each request with these words until it lets go."""

    def __init__(self, room: Room, words: bytes) -> None:
        self._room = room
        self._words: bytes | None = words
        self._kept: list[list[bytes]] = []
        self._lanes: dict[bytes, Link] = {}
        front = open_socket(room.context, zmq.ROUTER)
        self.endpoint = bind(front, f"ipc://{room.folder}/held")
        self._front = Link(front, 3, self._asked)

    def _asked(self, frames: list[bytes]) -> None:
        if self._words is not None and self._words in frames[-1]:
            self._kept.append(frames)
        else:
            self._lane(frames[0]).send(frames[1:])

    def _lane(self, route: bytes) -> Link:
        """Return the way to the DB node that one lane of the api has to itself."""
        if route not in self._lanes:
            back = open_socket(self._room.context, zmq.DEALER)
            back.connect(f"ipc://{self._room.folder}/db")
            answered = lambda frames: self._front.send((route, *frames))  # noqa: E731
            self._lanes[route] = Link(back, 2, answered)
        return self._lanes[route]

    @property
    def holds(self) -> bool:
        return bool(self._kept)

    def let_go(self) -> None:
        self._words = None
        for frames in self._kept:
            self._asked(frames)

    def close(self) -> None:
        for link in (self._front, *self._lanes.values()):
            link.close()


async def test_a_node_that_is_back_before_its_calls_are_read_keeps_them() -> None:
    async with open_room() as room:
        await room.register()
        worker = await room.worker()
        worker.credit(1, dice=1)
        await room.invoke()
        start, params = await worker.start()
        assert room.api is not None
        room.api.end(signal.SIGKILL)
        worker.close()
        holding = Holding(room, b'"unfinishedCalls"')
        room.options = (*room.options, "--db", holding.endpoint)
        try:
            starting = asyncio.ensure_future(room.start_api())
            joining = asyncio.ensure_future(room.worker(running=[(start.call, 1)]))
            await soon(lambda: holding.holds)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(joining), SOON_S)
            holding.let_go()
            await starting
            again = await joining
            # What is to be judged at all is judged within this second.
            _, before, _ = await room.ask("GET", f"/call/{start.call}?wait=1")
            assert (before["status"], before["reason"]) == ("RUNNING", None)
            again.result(start.call, 1, record=start.record, params=params)
            _, answer, _ = await room.ask("GET", f"/call/{start.call}?wait=20")
        finally:
            holding.close()
        assert (answer["status"], answer["reason"]) == ("DONE", None)
