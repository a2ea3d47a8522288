"""What both clients are around their verbs: a place, a pace, connections, and their end."""

from __future__ import annotations

import os
import random
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from skep.collecting import Collector
from skep.dialogue import Dialogue, Pace
from skep.performing import perform, perform_async
from skep.portal import Portal
from skep.records import Call
from skep.transport import AsyncTransport, Place, Transport
from skep.verbs import Verbs

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """Where a skep is, how patient we are with it, and the verbs that are said to it."""

    place: Place
    pace: Pace
    verbs: Verbs

    @classmethod
    def of(
        cls,
        url: str | None,
        token: str | None,
        timeout: float,
        retries: int,
        clock: Callable[[], float],
    ) -> Self:
        """Return the terms that a client was made with."""
        pace = Pace(retries, timeout, clock, random.random)
        return cls(Place.of(url, token), pace, Verbs(pace, lambda: uuid.uuid4().hex))


class Shell:
    """Performs dialogues and waits for them."""

    def __init__(self, terms: Terms, sleep: Callable[[float], object]) -> None:
        self.place = terms.place
        self.verbs = terms.verbs
        self._sleep = sleep
        self._transport = Transport(terms.place)
        self._portal: Portal | None = None
        self._is_closed = False
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Shell of {self.place.url}>"

    def perform(self, dialogue: Dialogue[T]) -> T:
        """Carry out a dialogue and return its value."""
        return perform(dialogue, self._transport.send, self._sleep)

    def start(self, dialogue: Dialogue[T]) -> Future[T]:
        """Carry out a dialogue in the background: one thread does so for all of them."""
        return self._background(lambda portal: portal.start(dialogue))

    def many(
        self, function: str, settings: Mapping[str, Any], wait: float | None
    ) -> Callable[[Any, str | None], Future[Call]]:
        """Return what begins a call of a function by its params and its key, in the background.

        Those that begin about the same time share a request.
        """
        collectors: dict[Portal, Collector] = {}

        def begin(portal: Portal, params: Any, key: str | None) -> Future[Call]:
            if portal not in collectors:
                collectors[portal] = Collector(
                    self.verbs, portal.perform, function, settings, wait
                )
            return portal.run(collectors[portal].call(params, key))

        return lambda params, key: self._background(lambda portal: begin(portal, params, key))

    def _background(self, begin: Callable[[Portal], Future[T]]) -> Future[T]:
        self._heed_fork()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            if self._portal is None:
                self._portal = Portal(self.place)
            return begin(self._portal)

    def close(self) -> None:
        """Close the connections, and stop what is done in the background."""
        self._heed_fork()
        with self._lock:
            portal, self._portal, self._is_closed = self._portal, None, True
        if portal is not None:
            portal.close()
        self._transport.close()

    def _heed_fork(self) -> None:
        if self._pid != os.getpid():
            # The thread that served us is not in this fork; one that held the lock may not be.
            self._lock, self._portal, self._pid = threading.Lock(), None, os.getpid()


class AsyncShell:
    """Performs dialogues while the event loop goes on."""

    def __init__(self, terms: Terms, sleep: Callable[[float], Awaitable[object]]) -> None:
        self.place = terms.place
        self.verbs = terms.verbs
        self._sleep = sleep
        self._transport = AsyncTransport(terms.place)

    def __repr__(self) -> str:
        return f"<AsyncShell of {self.place.url}>"

    async def perform(self, dialogue: Dialogue[T]) -> T:
        """Carry out a dialogue and return its value."""
        return await perform_async(dialogue, self._transport.send, self._sleep)

    def many(
        self, function: str, settings: Mapping[str, Any], wait: float | None
    ) -> Callable[[Any, str | None], Coroutine[Any, Any, Call]]:
        """Return what makes a call as that of ``Shell.many`` does."""
        return Collector(self.verbs, self.perform, function, settings, wait).call

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()
