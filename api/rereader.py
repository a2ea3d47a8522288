"""Reads params of queued calls that memory had no room for from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from api import past
from api.store import Store
from wire.about import about
from wire.errors import SkepError
from wire.process import spawn

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5

#: Hears the params of a call; None: the store has no such call.
OnParams = Callable[[int, bytes | None], None]


class Rereader:
    """One task for each call that is read; dispatch bounds how many."""

    def __init__(self, store: Store, on_params: OnParams) -> None:
        self._store = store
        self._on_params = on_params
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Rereader of {len(self._tasks)} calls>"

    def read(self, num: int) -> None:
        """Read the params of a call, however long the store is away."""
        task = spawn(self._read(num), f"params of call {num}", about(call=num))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()

    async def _read(self, num: int) -> None:
        while True:
            try:
                kept = await past.stored(self._store, num, "params")
            except SkepError as error:
                log.warning("its params cannot be read: %s", error, extra=about(call=num))
                await asyncio.sleep(RETRY_S)
            else:
                break
        self._on_params(num, None if kept is None else bytes(kept.call.params))
