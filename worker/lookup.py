"""Finding the revision of a key, asking the api for it when this replica lacks it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from wire.messages import Catalogue
from wire.models import Spec
from worker.catalogue import Applied, Replica

#: A gap is healed a little later, by chance, lest all workers ask at once.
JITTER_S: Final = 0.1


class UnknownRevision(Exception):
    """The api knows no such revision."""


class Lookup:
    """The replica, who waits for what of it, and the one SYNC that may be under way."""

    def __init__(
        self, replica: Replica, sync: Callable[[str, int, tuple[str, ...]], None]
    ) -> None:
        self.replica = replica
        self._sync = sync
        self._waiting: dict[str, asyncio.Future[Spec | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Lookup in {self.replica}, {len(self._waiting)} keys awaited>"

    async def spec(self, key: str) -> Spec:
        """Return the revision of a key, asked for if need be.

        Raises:
            UnknownRevision: the api says that there is none.
        """
        spec = self.replica.spec(key)
        if spec is not None:
            return spec
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: self._waiting.pop(key, None))
            self.replica.forget_missing(key)
            self._ask_soon(0.0)
        found = await asyncio.shield(future)
        if found is None:
            raise UnknownRevision(key)
        return found

    def apply(self, message: Catalogue) -> None:
        """Take in a CATALOGUE, wherever it came from."""
        if self.replica.apply(message) is Applied.GAP:
            self._ask_soon(random.uniform(0, JITTER_S))  # noqa: S311 - only spreads load
        for key, future in list(self._waiting.items()):
            spec = self.replica.spec(key)
            if not future.done() and (spec or self.replica.is_missing(key)):
                future.set_result(spec)

    def stands(self, epoch: str, seq: int) -> None:
        """Compare with where an api stands: a lost last publication shows only so."""
        if self.replica.is_behind(epoch, seq) or self._waiting:
            self._ask_soon(random.uniform(0, JITTER_S))  # noqa: S311 - as above

    def resume(self) -> None:
        """A session has begun: ask again for what is awaited."""
        if self._waiting:
            self._ask_soon(0.0)

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask_soon(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(delay_s, self._ask)

    def _ask(self) -> None:
        self._timer = None
        self._sync(self.replica.epoch, self.replica.seq, tuple(self._waiting))
