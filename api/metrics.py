"""What this api tells Prometheus; docs/observability.md says what each number is good for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

from api.roster import Session
from api.service import Service
from api.store import boot_time
from api.tally import OTHERS
from wire.counting import ENDINGS, Metric, Reading, dropped
from wire.liveness import Pulse
from wire.metrics import Exposition
from wire.models import parse_key

#: Functions whose queues are told one by one; the others together.
TOP: Final = 20

CALLS: Final = Metric(
    "skep_calls_total", "counter", "Calls that ended, by how.", ("function", "status")
)
RUN: Final = Metric(
    "skep_call_run_seconds_total", "counter", "Time that calls executed.", ("function",)
)
STAGES: Final = Metric(
    "skep_call_stage_seconds",
    "histogram",
    "Where the time of calls that ended went: queued (accepted to first dispatched), "
    "prepare (dispatched to started), run (execution), total (accepted to finished).",
    ("stage",),
)
LIVING: Final = Metric(
    "skep_calls_unfinished", "gauge", "Calls that have not ended, or whose end is not stored."
)
ADRIFT: Final = Metric(
    "skep_calls_adrift", "gauge", "Calls that wait for word of a node that is not heard of."
)
STARTS: Final = Metric(
    "skep_starts_total",
    "counter",
    "Attempts sent to begin: idle (a warm sandbox waited), ahead (a place behind a running "
    "call), cold (a sandbox was made ready).",
    ("way",),
)
HITS: Final = Metric(
    "skep_warm_hit_ratio", "gauge", "Part of all starts since this api began that was not cold."
)
ATTEMPTS: Final = Metric(
    "skep_attempts_total",
    "counter",
    "Attempts that ended; RETURNED ones never began.",
    ("ending",),
)
QUEUE: Final = Metric("skep_queue_calls", "gauge", "Calls that wait for a credit.")
QUEUE_BYTES: Final = Metric(
    "skep_queue_bytes", "gauge", "Bytes of the params of queued calls that are in memory."
)
QUEUE_OF: Final = Metric(
    "skep_queue_function_calls",
    "gauge",
    f"Queued calls of the {TOP} functions with the most, and of all others.",
    ("function",),
)
WORKERS: Final = Metric(
    "skep_workers", "gauge", "Workers with a session: up, silent (3 s unheard), draining.",
    ("state",),
)  # fmt: skip
SLOTS: Final = Metric("skep_slots", "gauge", "Slots of a worker.", ("worker",))
CREDITS: Final = Metric(
    "skep_credits", "gauge", "Starts that a worker grants and nobody spent: free slots, idle "
    "sandboxes, places ahead.", ("worker", "kind"),
)  # fmt: skip
OUT: Final = Metric(
    "skep_worker_attempts", "gauge", "Attempts that are at a worker.", ("worker",)
)
OUTBOX: Final = Metric(
    "skep_store_outbox_records", "gauge", "Records that the DB node has not stored yet."
)
OUTBOX_BYTES: Final = Metric("skep_store_outbox_bytes", "gauge", "Their size in memory, about.")
UNRECORDED: Final = Metric(
    "skep_store_oldest_unrecorded_age_seconds",
    "gauge",
    "How long the oldest of them waits; 0 if none does. What a crash of api and worker loses.",
)
HELD: Final = Metric(
    "skep_store_held_ends_total",
    "counter",
    "Ends of calls that were told later, by a second at most, because the store was behind.",
)
STORE: Final = Metric(
    "skep_store_request_seconds",
    "histogram",
    "From asking the DB node to its answer, repetitions included.",
    ("lane",),
)
RETRIES: Final = Metric(
    "skep_store_retries_total", "counter", "Requests that were asked again.", ("lane",)
)
HTTP: Final = Metric(
    "skep_http_requests_total",
    "counter",
    "Requests that were answered.",
    ("route", "method", "status"),
)
HTTP_TIME: Final = Metric(
    "skep_http_request_seconds",
    "histogram",
    "From a request to its answer, waiting for the end of a call included.",
    ("route",),
)
REFUSED: Final = Metric(
    "skep_http_refusals_total",
    "counter",
    "Requests answered with an error, by its code (queue_full 429, no_worker 503 …).",
    ("code",),
)
WAITING: Final = Metric(
    "skep_waiting_clients", "gauge", "Clients that wait for the end of a call."
)
PACKAGES: Final = Metric("skep_packages", "gauge", "Uploaded packages that are kept.")
PACKAGE_BYTES: Final = Metric("skep_packages_bytes", "gauge", "Their size.")
SEQ: Final = Metric("skep_catalogue_seq", "gauge", "The newest change of the catalogue.")
FUNCTIONS: Final = Metric("skep_functions", "gauge", "Functions in the catalogue.")
RUNTIMES: Final = Metric("skep_runtimes", "gauge", "Runtimes in the catalogue.")
EPOCH: Final = Metric("skep_api_epoch", "gauge", "The epoch of this life of the api.")

METRICS: Final = (
    *(CALLS, RUN, STAGES, LIVING, ADRIFT, STARTS, HITS, ATTEMPTS),
    *(QUEUE, QUEUE_BYTES, QUEUE_OF, WORKERS, SLOTS, CREDITS, OUT),
    *(OUTBOX, OUTBOX_BYTES, UNRECORDED, HELD, STORE, RETRIES),
    *(HTTP, HTTP_TIME, REFUSED, WAITING),
    *(PACKAGES, PACKAGE_BYTES, SEQ, FUNCTIONS, RUNTIMES, EPOCH),
)


class Metrics:
    """The page of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept = (0, 0)
        self._page = Exposition("api", service.settings.name, METRICS, self._read)

    def __repr__(self) -> str:
        return f"<Metrics of {self._service!r}>"

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type."""
        # Looking at the disk may take time; all else is in memory, and read at one moment.
        self._kept = await asyncio.to_thread(_kept, self._service.packages.folder)
        return await self._page.page(accept)

    def _read(self) -> Iterable[Reading]:
        service = self._service
        return chain(
            _calls(service),
            _queues(service),
            _sessions(service),
            _store(service),
            _http(service),
            self._catalogue(),
            dropped("workers", service.hub.drops),
            dropped("store", service.store.counts.drops),
        )

    def _catalogue(self) -> Iterator[Reading]:
        catalogue = self._service.catalogue
        yield PACKAGES, (), self._kept[0]
        yield PACKAGE_BYTES, (), self._kept[1]
        yield SEQ, (), catalogue.seq
        yield FUNCTIONS, (), len(catalogue.functions())
        yield RUNTIMES, (), len(catalogue.runtimes())
        yield EPOCH, (), self._service.epoch


def _calls(service: Service) -> Iterator[Reading]:
    tally = service.dispatch.tally
    tally.fold(set(service.catalogue.functions()))
    yield from ((CALLS, key, count) for key, count in tally.calls.items())
    yield from ((RUN, (name,), run_s) for name, run_s in tally.run_s.items())
    yield from ((STAGES, (stage,), buckets) for stage, buckets in tally.stages.items())
    yield LIVING, (), len(service.dispatch.calls)
    yield ADRIFT, (), len(service.dispatch.adrift)
    yield from ((STARTS, (way,), tally.starts[way]) for way in ("idle", "ahead", "cold"))
    if tally.hit_ratio is not None:
        yield HITS, (), tally.hit_ratio
    yield from ((ATTEMPTS, (ending,), tally.attempts[ending]) for ending in ENDINGS)


def _queues(service: Service) -> Iterator[Reading]:
    backlog = service.backlog
    yield QUEUE, (), len(backlog)
    yield QUEUE_BYTES, (), backlog.size
    known, waiting = set(service.catalogue.functions()), Counter[str]()
    for key, count in backlog.lengths():
        # What was deleted runs on if it was accepted, but has no series of its own any more.
        if (name := parse_key(key)[1]) in known:
            waiting[name] += count
    top = waiting.most_common(TOP)
    yield from ((QUEUE_OF, (name,), count) for name, count in top)
    yield QUEUE_OF, (OTHERS,), len(backlog) - sum(count for _, count in top)
    yield WAITING, (), len(service.waiters)


def _sessions(service: Service) -> Iterator[Reading]:
    sessions = service.roster.sessions.values()
    states = Counter(map(_state, sessions))
    yield from ((WORKERS, (state,), states[state]) for state in ("up", "silent", "draining"))
    for session in sessions:
        name, ledger = session.hello.name, session.ledger
        keys = list(ledger.warm_keys())
        yield SLOTS, (name,), session.hello.slots
        yield OUT, (name,), len(session.attempts)
        yield CREDITS, (name, "free"), ledger.free
        yield CREDITS, (name, "idle"), sum(map(ledger.idle, keys))
        yield CREDITS, (name, "ahead"), sum(map(ledger.ahead, keys))


def _state(session: Session) -> str:
    if session.is_draining:
        return "draining"
    return "up" if session.pulse is Pulse.ALIVE else "silent"


def _store(service: Service) -> Iterator[Reading]:
    outbox, counts = service.recorder.outbox, service.store.counts
    oldest = outbox.oldest
    yield OUTBOX, (), len(outbox)
    yield OUTBOX_BYTES, (), outbox.size
    yield UNRECORDED, (), 0.0 if oldest is None else max(0.0, boot_time() - oldest)
    yield HELD, (), service.restraint.held_count
    yield from ((STORE, (lane,), buckets) for lane, buckets in counts.seconds.items())
    yield from ((RETRIES, (lane,), count) for lane, count in counts.retries.items())


def _http(service: Service) -> Iterator[Reading]:
    meter = service.meter
    yield from ((HTTP, key, count) for key, count in meter.requests.items())
    yield from ((HTTP_TIME, (route,), buckets) for route, buckets in meter.seconds.items())
    yield from ((REFUSED, (code,), count) for code, count in meter.refusals.items())


def _kept(folder: Path) -> tuple[int, int]:
    """Return how many packages there are, and their bytes."""
    sizes = []
    # Those with a dot are uploads under way.
    for path in folder.glob("[!.]*"):
        # Packages that nobody names may go meanwhile.
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)
