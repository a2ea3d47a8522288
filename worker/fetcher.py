"""Bytes that the api has and this node needs: packages and large params, piece by piece.

A transfer grants so many bytes, stores them, and grants the next: a slow link is never
flooded. It goes on from its offset when the session, or the api itself, is another one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from wire.codec import Payload
from wire.messages import Chunk
from wire.models import Reason

What = Literal["package", "params"]
GRANT_BYTES: Final = 2 << 20
#: Without a chunk for so long it is asked again.
STALL_S: Final = 5.0


class NotFetched(Exception):
    """The api does not have the bytes, or sends what cannot be."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(slots=True, eq=False)
class Transfer:
    """One thing under way: what was stored of it and what was granted."""

    what: What
    key: str
    store: Callable[[Payload], None]
    done: asyncio.Future[int]
    limit: int
    offset: int = 0
    granted: int = 0
    heard_at: float = 0.0
    total: int | None = field(default=None)


class Fetcher:
    """All transfers, by what and key."""

    def __init__(self, ask: Callable[[What, str, int, int], None]) -> None:
        self._ask = ask
        self._transfers: dict[tuple[str, str], Transfer] = {}
        #: Bytes that were stored, by what they are of.
        self.fetched: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Fetcher of {len(self._transfers)} transfers>"

    async def fetch(
        self, what: What, key: str, store: Callable[[Payload], None], *, limit: int
    ) -> int:
        """Get all bytes of one thing, in order, into ``store``; return how many.

        Raises:
            NotFetched: they are not to be had, or are more than ``limit``.
        """
        loop = asyncio.get_running_loop()
        transfer = Transfer(what, key, store, loop.create_future(), limit)
        self._transfers[what, key] = transfer
        try:
            self._grant(transfer, loop.time())
            return await transfer.done
        finally:
            self._transfers.pop((what, key), None)

    def chunk(self, chunk: Chunk, payload: Payload, now: float) -> None:
        """Take in a CHUNK; one that is not the next of its transfer is dropped."""
        transfer = self._transfers.get((chunk.what, chunk.key))
        if transfer is None or transfer.done.done():
            return
        if chunk.error is not None:
            transfer.done.set_exception(NotFetched(chunk.error))
        elif chunk.total > transfer.limit:
            message = f"{chunk.what} {chunk.key} has {chunk.total} bytes"
            error = NotFetched(Reason(code="protocol_violation", message=message))
            transfer.done.set_exception(error)
        elif chunk.offset == transfer.offset:
            self._take(transfer, chunk, payload, now)

    def resume(self, now: float) -> None:
        """Ask for the rest of everything: a session has just begun."""
        for transfer in self._transfers.values():
            self._grant(transfer, now)

    def tick(self, now: float) -> None:
        """Ask again for what stalls."""
        for transfer in self._transfers.values():
            if now - transfer.heard_at > STALL_S:
                self._grant(transfer, now)

    def _take(self, transfer: Transfer, chunk: Chunk, payload: Payload, now: float) -> None:
        try:
            transfer.store(payload)
        except OSError as error:
            transfer.done.set_exception(error)
            return
        transfer.offset += len(payload)
        self.fetched[chunk.what] += len(payload)
        transfer.heard_at = now
        if transfer.offset >= chunk.total:
            transfer.done.set_result(transfer.offset)
        elif transfer.offset >= transfer.granted:
            self._grant(transfer, now)

    def _grant(self, transfer: Transfer, now: float) -> None:
        transfer.granted = transfer.offset + GRANT_BYTES
        transfer.heard_at = now
        self._ask(transfer.what, transfer.key, transfer.offset, GRANT_BYTES)
