"""Writes what changed to the DB node: the shell around the outbox.

One batch is under way at a time. What somebody waits for goes at once, or as soon as the batch
under way is stored, and takes all that is there along. What nobody waits for collects for a
while, or until a crowd is there: a commit costs nearly the same for one record as for a
hundred. So while many come, the next batch collects until half as many are waited for as in the
last, or for as long as that took, but not where a batch was too large to take all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from api.live import Live
from api.outbox import Outbox
from api.store import Store, boot_time
from wire.errors import SkepError, StaleEpoch, StoreUnavailable
from wire.models import CallRecord
from wire.records import CallsWritten, WriteCalls

log = logging.getLogger(__name__)

#: How long a record that nobody waits for may collect company. Its worker keeps the result
#: until it is stored, so it is lost only if api and worker both die within this.
LAZY_S: Final = 0.25
RETRY_S: Final = 0.5
#: With so many records in the last batch more are sure to come, and the next one collects.
MANY_RECORDS: Final = 8
COLLECT_S: Final = 0.01
#: Records that are put in words before other work on the loop gets its turn.
SLICE_RECORDS: Final = 8

OnDurable = Callable[[int, int], None]


def pause_s(took_s: float) -> float:
    """Return how long a batch may collect after one that took so long."""
    return min(COLLECT_S, took_s)


class Recorder:
    """Takes records in, tells ``on_durable`` (callNum, rev) when they are stored."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        *,
        api: str,
        epoch: int,
        on_durable: OnDurable,
        pause_s: Callable[[float], float] = pause_s,
        lazy_s: float = LAZY_S,
    ) -> None:
        self._store = store
        self.outbox = outbox
        self._api = api
        self._epoch = epoch
        self._on_durable = on_durable
        self._pause_s = pause_s
        self._lazy_s = lazy_s
        self._lives: dict[int, Live] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._lazy: asyncio.TimerHandle | None = None
        self._flushes = False
        #: How often something was put that somebody waits for: since the last batch was taken,
        #: and for that.
        self._awaited = self._expected = 0
        self._has_enough = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Recorder {self.outbox!r}>"

    def put(self, live: Live, *, urgent: bool) -> None:
        """The record of a call has a new revision."""
        self.outbox.put(live.num, live.rev, live.size, boot_time())
        self._lives[live.num] = live
        self._empty.clear()
        self._awaited += urgent
        if urgent and self._expected <= 2 * self._awaited:
            self._has_enough.set()
        if urgent or self._flushes or self.outbox.is_crowded:
            self._wake.set()
        elif self._lazy is None:
            self._lazy = asyncio.get_running_loop().call_later(self._lazy_s, self._rise)

    async def run(self) -> None:
        """Write batch after batch, for ever.

        Raises:
            StaleEpoch: a newer life of this api writes now; this one has to end.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            begun = boot_time()
            batch = self.outbox.take()
            is_cut = len(self.outbox) > len(batch)
            self._expected, self._awaited = self._awaited, 0
            self._has_enough.clear()
            records = await self._in_words(batch)
            acks = await self._write(records) if records else ()
            self.outbox.acked()
            await self._tell(acks)
            if not self.outbox:
                self._empty.set()
            elif self._flushes or self._lazy is None or is_cut:
                self._wake.set()
            if len(batch) >= MANY_RECORDS and not (self._flushes or is_cut):
                await self._collect(self._pause_s(boot_time() - begun))

    async def _collect(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._has_enough.wait()

    async def flushed(self, limit_s: float) -> bool:
        """Wait until everything is stored; return whether it is."""
        self._flushes = True
        self._has_enough.set()
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

    async def _in_words(self, batch: list[tuple[int, int]]) -> tuple[CallRecord, ...]:
        records: list[CallRecord] = []
        for at in range(0, len(batch), SLICE_RECORDS):
            if at:
                await asyncio.sleep(0)
            records += (self._record(num) for num, _ in batch[at : at + SLICE_RECORDS])
        return tuple(records)

    def _record(self, num: int) -> CallRecord:
        live = self._lives[num]
        # Params never change: once they are stored, they need not travel again.
        params = msgspec.Raw(b"") if live.durable_rev else None
        return live.record(self._api, self._epoch, params)

    async def _tell(self, acks: tuple[tuple[int, int], ...]) -> None:
        for at, (num, rev) in enumerate(acks, 1):
            if at % SLICE_RECORDS == 0:
                await asyncio.sleep(0)
            live = self._lives.get(num)
            # What was put into words late may have been newer than what was taken.
            if live is not None and live.rev <= rev and num not in self.outbox:
                del self._lives[num]
            self._on_durable(num, rev)

    async def _write(self, records: tuple[CallRecord, ...]) -> tuple[tuple[int, int], ...]:
        request = WriteCalls(api=self._api, epoch=self._epoch, records=records)
        said = ""
        while True:
            try:
                written = await self._store.ask("writes", request, CallsWritten, None)
                if said:
                    log.info("the DB node stores again")
                return written.acks
            except StaleEpoch:
                raise
            except StoreUnavailable as error:
                # A disk can be full for hours: twice a second would fill it with this.
                if error.message != said:
                    log.warning("the DB node cannot store: %s; it is tried on", error)
                said = error.message
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
