"""The way to the DB node: one request under way per lane, asked again until it is answered.

Every command may be repeated, so a lane that hears nothing makes a fresh socket (a late answer
then finds nobody) and asks again. A lane is one purpose: a slow listing delays no write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Literal, TypeVar

import zmq

from wire import records
from wire.counting import Buckets, Drops
from wire.errors import ProtocolError, StoreUnavailable, WrongVersion
from wire.models import Model
from wire.sockets import Link, open_socket

log = logging.getLogger(__name__)

FIRST_TRY_S: Final = 1.0
LONGEST_TRY_S: Final = 8.0
#: How long a request that somebody waits for may take in all.
PATIENCE_S: Final = 5.0

Lane = Literal["writes", "catalogue", "leases", "reads", "params"]
LANES: Final[tuple[Lane, ...]] = ("writes", "catalogue", "leases", "reads", "params")
R = TypeVar("R", bound=Model)


class Counts:
    """What is counted of all lanes."""

    def __init__(self) -> None:
        self.seconds = {lane: Buckets() for lane in LANES}
        self.retries: dict[str, int] = dict.fromkeys(LANES, 0)
        self.drops = Drops()


class Store:
    """All lanes to one DB node."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.counts = Counts()
        self._lanes = {lane: _Lane(context, endpoint, lane, self.counts) for lane in LANES}

    def __repr__(self) -> str:
        return f"<Store {list(self._lanes.values())}>"

    async def ask(
        self, lane: Lane, request: Model, answer: type[R], patience_s: float | None = PATIENCE_S
    ) -> R:
        """Ask until answered; ``patience_s`` None waits for ever.

        Raises:
            StoreUnavailable: no answer in time, or a DB node of another protocol version.
            SkepError: what the DB node answered instead.
        """
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(patience_s):
                frame = await self._lanes[lane].ask(records.encode_request(request))
        except TimeoutError:
            raise StoreUnavailable(
                "the DB node does not answer",
                hint="is skep-dbnode running, and is its disk well? Try again in a moment",
            ) from None
        finally:
            self.counts.seconds[lane].observe(time.perf_counter() - begun)
        try:
            reply = records.decode_reply(request, frame)
        except WrongVersion as error:
            # It is as if there were none: what is to be stored waits for the right one.
            raise StoreUnavailable(error.message, hint=error.hint) from error
        if not isinstance(reply, answer):
            raise ProtocolError(f"the DB node answered {type(reply).__name__}")
        return reply

    def close(self) -> None:
        """Close every lane; who waits on one is cancelled by its own task."""
        for lane in self._lanes.values():
            lane.close()


class _Lane:
    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        name: Lane,
        counts: Counts,
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._name = name
        self._counts = counts
        self._turn = asyncio.Lock()
        self._link: Link | None = None
        self._reply: asyncio.Future[bytes] | None = None

    def __repr__(self) -> str:
        return f"<lane {self._name}{' busy' if self._turn.locked() else ''}>"

    async def ask(self, frame: bytes) -> bytes:
        async with self._turn:
            try_s = FIRST_TRY_S
            while True:
                reply = await self._try(frame, try_s)
                if reply is not None:
                    return reply
                self._counts.retries[self._name] += 1
                log.warning("no answer of the DB node (%s): asking again", self._name)
                try_s = min(LONGEST_TRY_S, try_s * 2)

    async def _try(self, frame: bytes, limit_s: float) -> bytes | None:
        link = self._link or self._connect()
        self._reply = asyncio.get_running_loop().create_future()
        link.send((b"", frame))
        try:
            async with asyncio.timeout(limit_s):
                return await self._reply
        except TimeoutError:
            self.close()
            return None
        except asyncio.CancelledError:
            # The answer may still come: it must not meet the next request.
            self.close()
            raise
        finally:
            self._reply = None

    def _connect(self) -> Link:
        socket = open_socket(self._context, zmq.DEALER)
        socket.connect(self._endpoint)
        self._link = Link(socket, 2, self._on_message, self._counts.drops)
        return self._link

    def _on_message(self, frames: list[bytes]) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(frames[1])

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def boot_time() -> float:
    """Return the clock of the api: monotonic, and it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
