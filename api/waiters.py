"""Who waits for the end of a call, or for a revision of it to be durable."""

from __future__ import annotations

import asyncio

from api.live import Live


class Waiters:
    """Futures by callNum; the shell resolves them as it performs what was decided."""

    def __init__(self) -> None:
        self._ends: dict[int, list[asyncio.Future[None]]] = {}
        self._writes: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Waiters {len(self._ends)} for ends, {len(self._writes)} for writes>"

    def __len__(self) -> int:
        return sum(map(len, self._ends.values()))

    async def end(self, live: Live, limit_s: float) -> bool:
        """Wait for a call's end; return whether it came in time."""
        if live.status.is_terminal:
            return True
        if self._closed or limit_s <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._ends.setdefault(live.num, [])
        waiting.append(future)
        timer = asyncio.get_running_loop().call_later(limit_s, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            self._forget(live.num, future)
        return live.status.is_terminal

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

    def ended(self, num: int) -> None:
        """A call has its terminal state."""
        for future in self._ends.pop(num, ()):
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
        for num in list(self._ends):
            self.ended(num)

    def _forget(self, num: int, future: asyncio.Future[None]) -> None:
        waiting = self._ends.get(num)
        if waiting and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._ends[num]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
