"""Who waits for the end of a call, or for a revision of it to be durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.live import Live

#: When to wait no longer, and what to do then, or at the end.
Watch = tuple[asyncio.TimerHandle, Callable[[], None]]


class Waiters:
    """Futures by callNum; the shell resolves them as it performs what was decided."""

    def __init__(self) -> None:
        self._ends: dict[int, list[asyncio.Future[None]]] = {}
        self._watches: dict[int, Watch] = {}
        #: How many wait for ends.
        self._count = 0
        self._writes: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}
        self._drains: dict[int, set[asyncio.Future[None]]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Waiters {len(self._ends)} for ends, {len(self._writes)} for writes>"

    def __len__(self) -> int:
        return self._count + len(self._watches)

    async def end(self, live: Live, limit_s: float) -> bool:
        """Wait for a call's end; return whether it came in time."""
        if live.status.is_terminal:
            return True
        if self._closed or limit_s <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(live.num, []).append(future)
        self._count += 1
        timer = asyncio.get_running_loop().call_later(limit_s, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            self._forget(live.num, future)
        return live.status.is_terminal

    def watch(self, live: Live, limit_s: float, done: Callable[[], None]) -> None:
        """Have ``done`` called when a call ended, or when that is over: it must be quick.

        Only of a call that has just been accepted, and of nobody else's.
        """
        limit_s = 0.0 if self._closed else limit_s
        timer = asyncio.get_running_loop().call_later(limit_s, self._unwatch, live.num)
        self._watches[live.num] = timer, done

    def _unwatch(self, num: int) -> None:
        watch = self._watches.pop(num, None)
        if watch is not None:
            timer, done = watch
            timer.cancel()
            done()

    async def durable(self, live: Live, rev: int, limit_s: float) -> bool:
        """Wait until a revision (or a newer one) is stored; return whether it is."""
        if live.durable_rev >= rev:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writes.setdefault(live.num, []).append((rev, future))
        timer = asyncio.get_running_loop().call_later(limit_s, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()
        return live.durable_rev >= rev

    async def empty(self, number: int, limit_s: float) -> None:
        """Wait until nothing is left on the node of a session, or that is over."""
        if self._closed or limit_s <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drains.setdefault(number, set()).add(future)
        timer = asyncio.get_running_loop().call_later(limit_s, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            if waiting := self._drains.get(number):
                waiting.discard(future)

    def emptied(self, number: int) -> None:
        """Nothing is left on the node of a session, or that is over."""
        for future in self._drains.pop(number, ()):
            _resolve(future)

    def ended(self, num: int) -> None:
        """A call has its terminal state."""
        self._unwatch(num)
        waiting = self._ends.pop(num, ())
        self._count -= len(waiting)
        for future in waiting:
            _resolve(future)

    def stored(self, num: int, rev: int) -> None:
        """A revision is durable."""
        waiting = self._writes.pop(num, None)
        if waiting is None:
            return
        late = [(wanted, future) for wanted, future in waiting if wanted > rev]
        if late:
            self._writes[num] = late
        for wanted, future in waiting:
            if wanted <= rev:
                _resolve(future)

    def close(self) -> None:
        """The api stops: nobody waits for an end any longer."""
        self._closed = True
        for num in (*self._ends, *self._watches):
            self.ended(num)
        for number in list(self._drains):
            self.emptied(number)

    def _forget(self, num: int, future: asyncio.Future[None]) -> None:
        waiting = self._ends.get(num)
        if waiting and future in waiting:
            waiting.remove(future)
            self._count -= 1
            if not waiting:
                del self._ends[num]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
