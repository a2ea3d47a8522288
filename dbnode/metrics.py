"""What the DB node tells Prometheus; docs/observability.md says what is good for what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final

from dbnode.desk import Desk
from dbnode.server import Server
from dbnode.store import Measures
from wire.counting import Metric, Reading, dropped
from wire.errors import StaleEpoch
from wire.metrics import Exposition

#: A store that is busy for longer is told as it was the last time.
PATIENCE_S: Final = 2.0

REQUESTS: Final = Metric(
    "skep_dbnode_requests_total",
    "counter",
    "Requests that were answered: ok, or the code of the error.",
    ("request", "status"),
)
STALE: Final = Metric(
    "skep_dbnode_stale_requests_total",
    "counter",
    "Requests refused because a newer life of their api has taken over.",
)
WAITING: Final = Metric(
    "skep_dbnode_waiting_requests", "gauge", "Requests that wait for the next batch."
)
BATCH: Final = Metric(
    "skep_dbnode_batch_requests", "histogram", "Requests that were answered together."
)
COMMIT: Final = Metric(
    "skep_dbnode_commit_seconds", "histogram", "How long making a batch durable took."
)
SYNC: Final = Metric(
    "skep_dbnode_sync_seconds", "histogram", "How long the disk took to sync a file or folder."
)
FAILED: Final = Metric(
    "skep_dbnode_failed_commits_total", "counter", "Batches that could not be made durable."
)
CALLS: Final = Metric("skep_dbnode_calls", "gauge", "Calls that are stored.")
EXPIRED: Final = Metric(
    "skep_dbnode_expired_calls_total", "counter", "Calls removed as no longer kept."
)
PAGES: Final = Metric(
    "skep_dbnode_pages", "gauge", "Pages of calls: open (may change) and sealed.", ("state",)
)
BYTES: Final = Metric(
    "skep_dbnode_store_bytes", "gauge", "Size of the store's files, by part.", ("part",)
)
SEQ: Final = Metric("skep_dbnode_catalogue_seq", "gauge", "The newest change of the catalogue.")
EPOCH: Final = Metric(
    "skep_dbnode_api_epoch", "gauge", "The newest life of each api that was here.", ("api",)
)
NEXT: Final = Metric("skep_dbnode_next_call", "gauge", "The next call number to be leased.")

METRICS: Final = (
    *(REQUESTS, STALE, WAITING, BATCH, COMMIT, SYNC, FAILED),
    *(CALLS, EXPIRED, PAGES, BYTES, SEQ, EPOCH, NEXT),
)


class Metrics:
    """The page of one DB node."""

    def __init__(self, server: Server, desk: Desk) -> None:
        self._server = server
        self._desk = desk
        self._measures = Measures()
        self._sizes: dict[str, int] = {}
        self._page = Exposition("dbnode", "dbnode", METRICS, self._read)

    def __repr__(self) -> str:
        return f"<Metrics of {self._server!r}>"

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type."""
        # A disk that hangs is when one looks here, and the counts are right even then.
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                self._measures = await self._server.between_batches(self._desk.measures)
        self._sizes = await asyncio.to_thread(self._desk.sizes)
        return await self._page.page(accept)

    def _read(self) -> Iterable[Reading]:
        return chain(
            _requests(self._server),
            _commits(self._desk),
            _stored(self._measures),
            ((BYTES, (part,), size) for part, size in self._sizes.items()),
            dropped("requests", self._server.drops),
        )


def _requests(server: Server) -> Iterator[Reading]:
    answered = server.answered
    yield from ((REQUESTS, key, count) for key, count in answered.items())
    stale = (count for (_, status), count in answered.items() if status == StaleEpoch.code)
    yield STALE, (), sum(stale)
    yield WAITING, (), server.waiting
    yield BATCH, (), server.batches


def _commits(desk: Desk) -> Iterator[Reading]:
    yield COMMIT, (), desk.commits
    yield FAILED, (), desk.failed
    yield EXPIRED, (), desk.expired
    if desk.syncs is not None:
        yield SYNC, (), desk.syncs


def _stored(measures: Measures) -> Iterator[Reading]:
    yield CALLS, (), measures.calls
    yield PAGES, ("open",), measures.open_pages
    yield PAGES, ("sealed",), measures.sealed_pages
    yield SEQ, (), measures.seq
    yield NEXT, (), measures.next_call
    yield from ((EPOCH, (api,), epoch) for api, epoch in measures.epochs.items())
