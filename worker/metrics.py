"""What this node tells Prometheus, its miniworkers included; see docs/observability.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from wire.counting import ENDINGS, Metric, Reading, dropped
from wire.metrics import Exposition
from worker.boxes import Stage
from worker.cache import cached_bytes
from worker.diary import FOUND
from worker.folder import NodeFolder
from worker.minis import HOWS
from worker.node import Node

SANDBOXES: Final = Metric(
    "skep_worker_sandboxes", "gauge", "Sandboxes, by what they are at.", ("stage",)
)
WAITING: Final = Metric(
    "skep_worker_waiting_sandboxes",
    "gauge",
    "Sandboxes that wait for calls: loaded with a function, or generic.",
    ("what",),
)
STARTS: Final = Metric(
    "skep_worker_starts_total",
    "counter",
    "Attempts by what they found: loaded (a sandbox with the function), generic, none.",
    ("found",),
)
MEMORY: Final = Metric(
    "skep_worker_memory_pressure", "gauge", "0 easy, 1 tight, 2 critical: idle sandboxes leave."
)
MINIS: Final = Metric(
    "skep_worker_miniworkers", "gauge", "Living miniworkers, those that install included."
)
SPAWNS: Final = Metric("skep_worker_spawns_total", "counter", "Miniworkers that were forked.")
EXITS: Final = Metric(
    "skep_worker_miniworker_exits_total",
    "counter",
    "Miniworkers that ended: in_order, failed (a status), signal, zygote (died with it).",
    ("how",),
)
KILLS: Final = Metric(
    "skep_worker_kills_total", "counter", "Miniworkers that this worker had to kill."
)
ZYGOTES: Final = Metric(
    "skep_worker_zygote_starts_total", "counter", "Zygotes started; more than one: one died."
)
VIOLATIONS: Final = Metric(
    "skep_worker_protocol_violations_total",
    "counter",
    "Sandboxes that were ended because what they said to their miniworker was not allowed.",
)
SETBACKS: Final = Metric(
    "skep_worker_setbacks",
    "gauge",
    "Failures to make a sandbox since one was made; above 0 one slot is granted at a time.",
)
SLOTS: Final = Metric("skep_worker_slots", "gauge", "Calls that may run at once.")
FREE: Final = Metric("skep_worker_free_slots", "gauge", "Slots in which one may begin now.")
HERE: Final = Metric("skep_worker_attempts_here", "gauge", "Attempts that are at this node.")
ATTEMPTS: Final = Metric(
    "skep_worker_attempts_total",
    "counter",
    "Attempts that left this node, by status (OOM, TIMEOUT …); RETURNED ones never began.",
    ("ending",),
)
FAULTS: Final = Metric(
    "skep_worker_faults_total",
    "counter",
    "Attempts RETURNED for a fault, by whose: function (install failed …), node (disk full …).",
    ("fault",),
)
RESULTS: Final = Metric(
    "skep_worker_unrecorded_results", "gauge", "Results that the api has not RECORDED yet."
)
RESULT_BYTES: Final = Metric("skep_worker_unrecorded_bytes", "gauge", "Their size.")
EVICTIONS: Final = Metric(
    "skep_worker_evictions_total",
    "counter",
    "Idle sandboxes stopped to make room, and packages and bundles removed for it.",
    ("what",),
)
BUNDLES: Final = Metric(
    "skep_worker_bundle_requests_total",
    "counter",
    "Bundles that sandboxes asked for: hit (it was there), miss (it had to be made).",
    ("found",),
)
CACHE: Final = Metric(
    "skep_worker_cache_bytes", "gauge", "Packages and bundles on the disk.", ("what",)
)
BUILDS: Final = Metric(
    "skep_worker_builds_total", "counter", "Installs of dependencies, by end.", ("ending",)
)
BUILD_TIME: Final = Metric(
    "skep_worker_build_seconds", "histogram", "How long an install of dependencies took."
)
BUILDING: Final = Metric("skep_worker_builds_running", "gauge", "Installs under way.")
PULLS: Final = Metric(
    "skep_worker_pulls_total", "counter", "Images looked for, and pulled if need be, by end.",
    ("ending",),
)  # fmt: skip
FETCHED: Final = Metric(
    "skep_worker_fetched_bytes_total", "counter", "Bytes fetched from the api.", ("what",)
)
OPEN: Final = Metric(
    "skep_worker_session_open", "gauge", "1 while this node has a session with its api."
)
SESSIONS: Final = Metric("skep_worker_sessions_total", "counter", "Sessions that were opened.")

METRICS: Final = (
    *(SANDBOXES, MINIS, SPAWNS, EXITS, KILLS, ZYGOTES, VIOLATIONS, SETBACKS),
    *(WAITING, STARTS, MEMORY),
    *(SLOTS, FREE, HERE, ATTEMPTS, FAULTS, RESULTS, RESULT_BYTES),
    *(EVICTIONS, BUNDLES, CACHE, BUILDS, BUILD_TIME, BUILDING, PULLS, FETCHED, OPEN),
    SESSIONS,
)


class Metrics:
    """The page of one node."""

    def __init__(self, node: Node, folder: NodeFolder, name: str) -> None:
        self._node = node
        self._folder = folder
        self._cached: dict[str, int] = {}
        self._page = Exposition("worker", name, METRICS, self._read)

    def __repr__(self) -> str:
        return f"<Metrics of {self._node!r}>"

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type."""
        # Looking at the disk may take time; all else is in memory, and read at one moment.
        self._cached = await asyncio.to_thread(cached_bytes, self._folder)
        return await self._page.page(accept)

    def _read(self) -> Iterable[Reading]:
        node = self._node
        cached = ((CACHE, (what,), size) for what, size in self._cached.items())
        return chain(
            _sandboxes(node),
            _attempts(node),
            _bundles(node),
            cached,
            _session(node),
            dropped("api", node.uplink.drops),
            dropped("miniworkers", node.minis.drops),
            dropped("jobs", node.diary.unread),
        )


def _sandboxes(node: Node) -> Iterator[Reading]:
    minis = node.minis
    stages = Counter(box.stage for box in node.broker.pool)
    yield from ((SANDBOXES, (stage.value,), stages[stage]) for stage in Stage)
    resting = node.broker.pool.resting
    yield WAITING, ("loaded",), sum(resting.counts().values())
    yield WAITING, ("generic",), sum(resting.generics().values())
    yield from ((STARTS, (found,), node.diary.starts[found]) for found in FOUND)
    yield MEMORY, (), node.broker.keeping.level
    yield MINIS, (), len(minis)
    yield SPAWNS, (), minis.spawned
    yield from ((EXITS, (how,), minis.exits[how]) for how in HOWS)
    yield KILLS, (), node.diary.kills
    yield ZYGOTES, (), minis.zygote.starts
    yield VIOLATIONS, (), node.diary.violations
    yield SETBACKS, (), node.broker.setbacks.count


def _attempts(node: Node) -> Iterator[Reading]:
    broker, diary, results = node.broker, node.diary, node.results
    yield SLOTS, (), broker.slots
    yield FREE, (), broker.free
    yield HERE, (), len(broker.book.all)
    yield from ((ATTEMPTS, (ending,), diary.attempts[ending]) for ending in ENDINGS)
    yield from ((FAULTS, (fault,), diary.faults[fault]) for fault in ("function", "node"))
    yield RESULTS, (), len(results)
    yield RESULT_BYTES, (), results.size
    yield EVICTIONS, ("sandbox",), broker.pool.evicted


def _bundles(node: Node) -> Iterator[Reading]:
    bundles, builds = node.bundles, node.builds
    yield EVICTIONS, ("cache",), bundles.evicted
    yield BUNDLES, ("hit",), bundles.hits
    yield BUNDLES, ("miss",), bundles.misses
    yield from ((BUILDS, (ending,), builds.endings[ending]) for ending in ("done", "failed"))
    yield from ((PULLS, (ending,), node.pulls.endings[ending]) for ending in ("done", "failed"))
    yield BUILD_TIME, (), builds.seconds
    yield BUILDING, (), len(builds)
    fetched = node.fetcher.fetched
    yield from ((FETCHED, (what,), fetched[what]) for what in ("package", "params"))


def _session(node: Node) -> Iterator[Reading]:
    yield OPEN, (), int(node.uplink.session.is_open)
    yield SESSIONS, (), node.uplink.opened
