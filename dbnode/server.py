"""The socket: requests in, batches to the desk's thread, answers out.

A ROUTER, so that a plain REQ can ask and many requests can wait at once. Whatever arrived
while the last batch was being committed is the next batch: no timer, one fsync for all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import zmq

from dbnode.desk import Answer, Asking, Desk
from dbnode.draft import CHANGES
from wire import errors, records
from wire.counting import Buckets, Drops
from wire.sockets import Link

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BATCH: Final = 1000
#: How often calls are looked for that are no longer kept, in seconds.
EXPIRE_S: Final = 10.0
BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, MAX_BATCH)
#: Stands for what is no request.
NO_REQUEST: Final = "_none"
#: How much may wait for the store. An api has a few requests under way, and asks again on a
#: new connection while a disk hangs: what is over this are requests that nobody waits for.
MAX_WAITING: Final = 1000
MAX_WAITING_BYTES: Final = 64 << 20
#: The routing id, REQ's empty frame, the request.
FRAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits: who asked, the frame it came in, and what it asks or lacks."""

    peer: bytes
    frame: bytes
    request: Asking


class Server:
    """Serves a desk on a bound socket until it is stopped."""

    def __init__(self, socket: zmq.Socket[bytes], desk: Desk) -> None:
        self._desk = desk
        self._waiting: deque[Asked] = deque()
        #: Of the frames of those.
        self._bytes = 0
        #: How many were dropped because too much waited.
        self.dropped = 0
        self._arrived = asyncio.Event()
        self.drops = Drops()
        self._refused: set[str] = set()
        #: By msgType and ok, or the code of the error.
        self.answered: Counter[tuple[str, str]] = Counter()
        self.batches = Buckets(BATCHES)
        self._link = Link(socket, FRAMES, self._on_message, self.drops)
        # One thread: the store is not shared, and the loop goes on reading meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def __repr__(self) -> str:
        return f"<Server of {self._desk!r}, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the next batch."""
        return len(self._waiting)

    async def between_batches(self, work: Callable[[], T]) -> T:
        """Do something with the desk while it answers nobody."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until ``stop``; the batch under way then is committed first."""
        watch = asyncio.create_task(self._wake_at(stop), name="stop")
        expiry = asyncio.create_task(self._expire(), name="expiry")
        try:
            while not stop.is_set():
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting and not stop.is_set():
                    await self._one_batch()
        finally:
            watch.cancel()
            expiry.cancel()
            self.close()

    def close(self) -> None:
        """Stop reading, and end the thread once it has done what it does."""
        self._thread.shutdown()
        self._link.close()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._arrived.set()

    async def _expire(self) -> None:
        """Remove what is no longer kept, some calls at a time: batches go in between."""
        while True:
            more = await self.between_batches(self._expire_some)
            await asyncio.sleep(0 if more else EXPIRE_S)

    def _expire_some(self) -> bool:
        return self._desk.expire(time.time_ns() // 1_000_000)

    async def _one_batch(self) -> None:
        loop = asyncio.get_running_loop()
        batch = take(self._waiting)
        self._bytes -= sum(len(asked.frame) for asked in batch)
        requests = [asked.request for asked in batch]
        answers = await loop.run_in_executor(self._thread, self._desk.answer, requests)
        self.batches.observe(len(batch))
        for asked, answer in zip(batch, answers, strict=True):
            self.answered[_kind(asked.request), _status(answer)] += 1
            self._answer(asked.peer, asked.frame, answer)
        if self._desk.is_untidy:
            await loop.run_in_executor(self._thread, self._desk.tidy)

    def _on_message(self, message: list[bytes]) -> None:
        peer, empty, frame = message
        if empty:
            self.drops.garbage += 1
            log.warning("dropped a message without the empty frame before the request")
            return
        try:
            request: Asking = records.decode_request(frame)
        except errors.WrongVersion as error:
            self._estranged(error)
            request = error
        except errors.BadRequest as error:
            # It takes its turn too: who pipelines requests knows answers by their order.
            request = error
        self._queue(Asked(peer, frame, request))
        self._arrived.set()

    def _queue(self, asked: Asked) -> None:
        """Let a request wait; the oldest make room, unanswered: they are asked again."""
        self._waiting.append(asked)
        self._bytes += len(asked.frame)
        while self._bytes > MAX_WAITING_BYTES or len(self._waiting) > MAX_WAITING:
            self._bytes -= len(self._waiting.popleft().frame)
            if not self.dropped:
                log.warning("the store is so far behind that the oldest requests are dropped")
            self.dropped += 1

    def _estranged(self, error: errors.WrongVersion) -> None:
        """Log a refusal once: who is refused asks again every few seconds."""
        if error.message not in self._refused:
            self._refused.add(error.message)
            log.warning("refused: %s (%s)", error.message, error.hint)

    def _answer(self, peer: bytes, frame: bytes, answer: Answer) -> None:
        self._link.send((peer, b"", encoded(frame, answer)))


def _kind(request: Asking) -> str:
    if isinstance(request, errors.SkepError):
        return NO_REQUEST
    name = type(request).__name__
    return name[0].lower() + name[1:]


def _status(answer: Answer) -> str:
    return answer.code if isinstance(answer, errors.SkepError) else "ok"


def encoded(frame: bytes, answer: Answer) -> bytes:
    """Return the frame that answers a request, in the request's encoding."""
    try:
        return records.alike(frame, records.encode_reply(answer))
    except (ValueError, OverflowError, RecursionError) as error:
        # Params may hold numbers that JSON can write and MessagePack cannot.
        refusal = errors.BadRequest(
            f"the answer cannot be said in MessagePack: {error}", hint="ask in JSON"
        )
        return records.alike(frame, records.encode_reply(refusal))


def take(waiting: deque[Asked]) -> list[Asked]:
    """Take the next batch from those that wait.

    The desk commits a batch's changes before it answers its reads; so a change that follows
    a read of the same peer has to wait for the next batch, or the read would see too much.
    """
    batch: list[Asked] = []
    readers: set[bytes] = set()
    while waiting and len(batch) < MAX_BATCH:
        asked = waiting[0]
        if not isinstance(asked.request, CHANGES):
            readers.add(asked.peer)
        elif asked.peer in readers:
            break
        batch.append(waiting.popleft())
    return batch
