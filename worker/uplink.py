"""The line of this node to its api: one session after another, each on a fresh socket.

The SUB socket lives as long as the worker and is connected before the first HELLO, so that
no publication falls between snapshot and subscription. Everything on it is a hint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import zmq

from wire import messages as m
from wire import sockets
from wire.codec import FRAMES, Message, Payload, encode
from wire.counting import Drops
from wire.errors import ProtocolError, WrongVersion
from worker.session import Order, Session

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
#: How long the last words may take to leave when the worker ends.
BYE_MS: Final = 500


class Listener(Protocol):
    """Who is told what happens on the line."""

    def hello(self) -> m.Hello:
        """Return the HELLO of this moment."""

    def opened(self, welcome: m.Welcome) -> None:
        """Hear that a session is open."""

    def lost(self, *, slept: bool) -> None:
        """Hear that the session is over."""

    def heard(self, message: Message, payload: Payload) -> None:
        """Take a message of the open session."""

    def hint(self, message: Message) -> None:
        """Take what was published."""


def now_s() -> float:
    """Return the clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Uplink:
    """The DEALER of the present session, and the SUB."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        api: str,
        pub: str,
        listener: Listener,
        clock: Callable[[], float] = now_s,
    ) -> None:
        self.session = Session()
        self.drops = Drops()
        self.opened = 0
        self._context = context
        self._api = api
        self._listener = listener
        self._clock = clock
        self._link: sockets.Relay | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sub = self._subscribe(pub)

    def __repr__(self) -> str:
        return f"<Uplink to {self._api}, session {self.session.number}>"

    def start(self) -> None:
        """Join, and go on joining whenever a session is lost."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self.start)
        self.tick()

    def tick(self) -> None:
        """Judge the session by the time that has passed."""
        if self._link is not None:
            # Whoever judges silence has read his socket first.
            self._link.drain()
        self._obey(self.session.tick(self._clock()))

    def say(self, message: Message, payload: Payload = b"") -> None:
        """Send a message of the open session."""
        if self._link is not None:
            self._link.send(encode(message, payload))

    def close(self, last: Message | None = None) -> None:
        """Leave; ``last`` is given a moment to get out."""
        if self._timer is not None:
            self._timer.cancel()
        if last is not None:
            self.say(last)
        self._sub.close()
        if self._link is not None:
            self._link.close(linger_ms=BYE_MS)
            self._link = None

    def _subscribe(self, pub: str) -> sockets.Link:
        socket = sockets.open_socket(self._context, zmq.SUB)
        socket.connect(pub)
        for topic in (m.TOPIC_CATALOGUE, m.TOPIC_CANCEL):
            socket.subscribe(topic)
        return sockets.Link(socket, 1 + FRAMES, self._read_hint, self.drops)

    def _connect(self) -> None:
        if self._link is not None:
            self._link.close()
        socket = sockets.open_socket(self._context, zmq.DEALER)
        socket.connect(self._api)
        link: sockets.Relay = sockets.Relay(
            socket, FRAMES, lambda frames: self._read(link, frames), self.drops
        )
        self._link = link

    def _obey(self, orders: Iterable[Order]) -> None:
        for order in orders:
            match order:
                case Order.HELLO:
                    self._connect()
                    self.say(self._listener.hello())
                case Order.LOST | Order.SLEPT:
                    self._drop()
                    log.warning("the session with the api is lost (%s)", order.value)
                    self._listener.lost(slept=order is Order.SLEPT)
                case Order.OPENED:
                    pass

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _read(self, link: sockets.Relay, frames: list[Payload]) -> None:
        now = self._clock()
        if self.session.is_late(now):
            # What arrived while this process stood still must not begin now.
            self._obey(self.session.tick(now))
        if link is not self._link:
            return
        try:
            message, payload = m.FROM_API.decode(frames)
        except ProtocolError as error:
            self.drops.garbage += 1
            log.warning("dropped: %s", error.message)
            return
        self._sort(message, payload, now)

    def _sort(self, message: Message, payload: Payload, now: float) -> None:
        match message:
            case m.Welcome():
                orders = self.session.answer(message, now)
                if Order.OPENED in orders:
                    self.opened += 1
                    log.info("session %d with api %s", message.session, message.api)
                    self._listener.opened(message)
            case m.Refuse():
                if message != self.session.refused:
                    # It asks again every few seconds: once is enough for the log.
                    log.error("refused: %s (%s)", message.message, message.hint)
                self._obey(self.session.answer(message, now))
            case m.Who():
                self._obey(self.session.answer(message, now))
            case _ if self.session.heard(getattr(message, "session", 0), now):
                self._listener.heard(message, payload)

    def _read_hint(self, frames: list[bytes]) -> None:
        try:
            message, _ = m.FROM_API.decode(frames[1:])
        except WrongVersion:
            # The api itself says so, in answer to HELLO.
            self.drops.garbage += 1
            return
        except ProtocolError as error:
            self.drops.garbage += 1
            log.warning("dropped: %s", error.message)
            return
        self._listener.hint(message)
