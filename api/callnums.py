"""Call numbers from the DB node: the shell around the leases."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from api.leases import Leases
from api.store import Store, boot_time
from wire.errors import SkepError, StaleEpoch, StoreUnavailable
from wire.records import CallsLeased, CallsReturned, LeaseCalls, ReturnCalls

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
GIVE_BACK_S: Final = 1.0


class Numbers:
    """Gives out call numbers and keeps them in stock."""

    def __init__(self, store: Store, *, api: str, epoch: int) -> None:
        self._store = store
        self._api = api
        self._epoch = epoch
        self._leases = Leases()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()

    def __repr__(self) -> str:
        return f"<Numbers {self._leases!r}>"

    async def take(self, limit_s: float) -> int:
        """Return the next call number.

        Raises:
            StoreUnavailable: the DB node leases none in time.
        """
        while (num := self.next()) is None:
            # Each time: the block that came may have gone to those who waited before.
            self._taken.set()
            self._arrived.clear()
            try:
                async with asyncio.timeout(limit_s):
                    await self._arrived.wait()
            except TimeoutError:
                raise StoreUnavailable(
                    "the DB node gives no call numbers",
                    hint="is skep-dbnode running? Try again in a moment",
                ) from None
        return num

    def next(self) -> int | None:
        """Return the next call number if one is in stock, as it mostly is."""
        num = self._leases.take()
        if num is not None and self._leases.runs_low:
            self._taken.set()
        return num

    async def run(self) -> None:
        """Lease block after block as they are used up, for ever.

        Raises:
            StaleEpoch: a newer life of this api leases now; this one has to end.
        """
        while True:
            await self._taken.wait()
            self._taken.clear()
            count = self._leases.wanted(boot_time())
            if count is not None and not await self._lease(count):
                await asyncio.sleep(RETRY_S)
                self._taken.set()

    async def give_back(self) -> None:
        """Return what was not given out; of no use to anybody if it fails."""
        for first, count in self._leases.tails():
            request = ReturnCalls(api=self._api, epoch=self._epoch, first=first, count=count)
            try:
                await self._store.ask("leases", request, CallsReturned, GIVE_BACK_S)
            except SkepError as error:
                log.info("call numbers from %d on are skipped: %s", first, error)

    async def _lease(self, count: int) -> bool:
        request = LeaseCalls(api=self._api, epoch=self._epoch, count=count)
        try:
            leased = await self._store.ask("leases", request, CallsLeased, None)
        except StaleEpoch:
            raise
        except SkepError as error:
            log.warning("no call numbers: %s", error)
            self._leases.failed()
            return False
        self._leases.add(leased.first, leased.count, boot_time())
        self._arrived.set()
        return True
