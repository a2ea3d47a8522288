"""Writes what changed to the DB node: the shell around the outbox.

One batch is under way at a time; what is not waited for collects a few milliseconds more, so
that a short synchronous call costs one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from api.live import Live
from api.outbox import Outbox
from api.store import Store, boot_time
from wire.errors import SkepError, StaleEpoch, StoreUnavailable
from wire.models import CallRecord
from wire.records import CallsWritten, WriteCalls

log = logging.getLogger(__name__)

#: How long a record that nobody waits for may collect company.
LAZY_S: Final = 0.01
RETRY_S: Final = 0.5

OnDurable = Callable[[int, int], None]


class Recorder:
    """Takes records in, tells ``on_durable`` (callNum, rev) when they are stored."""

    def __init__(
        self, store: Store, outbox: Outbox, *, api: str, epoch: int, on_durable: OnDurable
    ) -> None:
        self._store = store
        self.outbox = outbox
        self._api = api
        self._epoch = epoch
        self._on_durable = on_durable
        self._lives: dict[int, Live] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._lazy: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Recorder {self.outbox!r}>"

    def put(self, live: Live, *, urgent: bool) -> None:
        """The record of a call has a new revision."""
        self.outbox.put(live.num, live.rev, live.size, boot_time())
        self._lives[live.num] = live
        self._empty.clear()
        if urgent:
            self._wake.set()
        elif self._lazy is None:
            self._lazy = asyncio.get_running_loop().call_later(LAZY_S, self._rise)

    async def run(self) -> None:
        """Write batch after batch, for ever.

        Raises:
            StaleEpoch: a newer life of this api writes now; this one has to end.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self.outbox.take():
                records = tuple(self._record(num) for num, _ in batch)
                acks = await self._write(records)
                self.outbox.acked()
                self._told(acks)
            self._empty.set()

    async def flushed(self, limit_s: float) -> bool:
        """Wait until everything is stored; return whether it is."""
        self._wake.set()
        try:
            async with asyncio.timeout(limit_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Cancel the timer."""
        if self._lazy is not None:
            self._lazy.cancel()

    def _rise(self) -> None:
        self._lazy = None
        self._wake.set()

    def _record(self, num: int) -> CallRecord:
        live = self._lives[num]
        # Params never change: once they are stored, they need not travel again.
        params = msgspec.Raw(b"") if live.durable_rev else None
        return live.record(self._api, self._epoch, params)

    def _told(self, acks: tuple[tuple[int, int], ...]) -> None:
        for num, rev in acks:
            live = self._lives.get(num)
            if live is not None and live.rev <= rev:
                del self._lives[num]
            self._on_durable(num, rev)

    async def _write(self, records: tuple[CallRecord, ...]) -> tuple[tuple[int, int], ...]:
        request = WriteCalls(api=self._api, epoch=self._epoch, records=records)
        while True:
            try:
                written = await self._store.ask("writes", request, CallsWritten, None)
                return written.acks
            except StaleEpoch:
                raise
            except StoreUnavailable as error:
                log.warning("the DB node cannot store: %s", error)
                await asyncio.sleep(RETRY_S)
            except SkepError as error:
                return await self._refused(records, error)

    async def _refused(
        self, records: tuple[CallRecord, ...], error: SkepError
    ) -> tuple[tuple[int, int], ...]:
        """One record must not keep the others from being stored: write each alone."""
        if len(records) == 1:
            live = self._lives[records[0].call.call_num]
            log.error("its record was refused: %s", error.message, extra=live.about)
            return ()
        acks: tuple[tuple[int, int], ...] = ()
        for record in records:
            acks += await self._write((record,))
        return acks
