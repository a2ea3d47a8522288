"""The line between a worker and its api in virtual time: what ZeroMQ does and does not.

In order and once within a connection. When a connection breaks, what was under way is lost,
from some message on, and the next one comes by another route; lines do not wait for each other.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.virtual.timeline import Timeline
from wire.codec import Dialect, Message, encode
from wire.messages import FROM_API, FROM_WORKER

#: Part of the messages that really become frames.
_CHECKED: Final = 0.02

Take = Callable[[bytes, Message, bytes], None]


@dataclass(slots=True, eq=False)
class Packet:
    """A message under way."""

    route: bytes
    message: Message
    payload: bytes
    is_lost: bool = False


class Way:
    """One direction of a line."""

    def __init__(
        self, timeline: Timeline, dice: Random, lag_s: float, take: Callable[[Packet], None]
    ):
        self._timeline = timeline
        self._dice = dice
        self._lag_s = lag_s
        self._take = take
        self._last = 0.0
        self._under_way: deque[Packet] = deque()

    def send(self, packet: Packet, not_before: float) -> None:
        """Put a message under way."""
        self._under_way.append(packet)
        soon = self._timeline.now + self._lag_s * self._dice.random()
        self._last = max(self._last, soon, not_before)
        self._timeline.at(self._last, lambda: self._arrive(packet))

    def lose(self, kept: int) -> int:
        """Lose all but so many, the last first; return how many were lost."""
        lost = list(self._under_way)[kept:]
        for packet in lost:
            packet.is_lost = True
        return len(lost)

    def __len__(self) -> int:
        return len(self._under_way)

    def _arrive(self, packet: Packet) -> None:
        self._under_way.popleft()
        if not packet.is_lost:
            self._take(packet)


class Line:
    """A DEALER of one worker and its way to the ROUTER of the api."""

    def __init__(
        self,
        timeline: Timeline,
        dice: Random,
        counts: Counter[str],
        new_route: Callable[[], bytes],
        to_api: Take,
        to_node: Callable[[Line, Message, bytes], None],
    ) -> None:
        self.route = new_route()
        self._new_route = new_route
        self.is_closed = False
        self._timeline = timeline
        self._dice = dice
        self._counts = counts
        self._held_until = 0.0
        lag_s = dice.choice((0.0005, 0.002, 0.02))
        self._up = Way(timeline, dice, lag_s, lambda p: to_api(p.route, p.message, p.payload))
        self._down = Way(timeline, dice, lag_s, lambda p: to_node(self, p.message, p.payload))

    def up(self, message: Message, payload: bytes) -> None:
        """Send to the api."""
        self._check(FROM_WORKER, message, payload)
        if not self.is_closed:
            self._counts["messages"] += 1
            self._up.send(Packet(self.route, message, payload), self._held_until)

    def down(self, message: Message, payload: bytes) -> None:
        """Send to the worker."""
        self._check(FROM_API, message, payload)
        if not self.is_closed:
            self._counts["messages"] += 1
            self._down.send(Packet(self.route, message, payload), self._held_until)

    def _check(self, dialect: Dialect[Message], message: Message, payload: bytes) -> None:
        """Now and then: what is sent can be read, and is the same then."""
        if self._dice.random() < _CHECKED:
            assert dialect.decode(list(encode(message, payload))) == (message, payload)

    def hold(self, until: float) -> None:
        """Let nothing that is sent from now on arrive before then."""
        self._held_until = max(self._held_until, until)

    def cut(self) -> None:
        """Break the connection: the next one begins at once, by another route."""
        lost = self._up.lose(self._dice.randint(0, len(self._up)))
        lost += self._down.lose(self._dice.randint(0, len(self._down)))
        self._counts["messages lost"] += lost
        self.route = self._new_route()

    def close(self) -> None:
        """The worker closes its socket: what it said may still arrive, nothing comes back."""
        self.is_closed = True
        lost = self._up.lose(self._dice.randint(0, len(self._up)))
        self._counts["messages lost"] += lost + self._down.lose(0)
