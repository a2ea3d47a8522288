"""Whether a warm call costs more when there is more of everything; and memory by the call.

    make bench-growth       # fifteen minutes at most
    python -m benchmarks.growth [--axes functions,calls,tinydb,workers,sandboxes,memory]
                                [--rounds N] [--calls N] [--into FILE]

For each axis a small and a large installation run side by side, and are measured in turns: p50
of one client, and the CPU that all processes of skep spend on one call. Results go to
``benchmarks/results/growth-*.json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import cost, memory, plane
from benchmarks.gate import Spread, quantile
from benchmarks.load import measure
from benchmarks.narrow import until_idle
from benchmarks.product import ECHO, Product, running
from benchmarks.results import Results, Sheet, begun, options, table
from benchmarks.store_growth import reserve_and_fill
from dbnode.desk import Desk
from dbnode.opening import opened

#: Axis -> how many of it there are in the small and in the large installation.
SIZES: Final[dict[str, tuple[int, int]]] = {
    "functions": (1, 1000),
    "calls": (1000, 1_000_000),
    "tinydb": (1000, 100_000),
    "workers": (1, 200),
    "sandboxes": (1, 300),
}
#: What an axis is called.
NAMES: Final = {
    "functions": "registered functions",
    "calls": "recorded calls (sqlite)",
    "tinydb": "recorded calls (tinydb)",
    "workers": "connected workers (simulated)",
    "sandboxes": "idle sandboxes on the node",
}
#: The longest last: there may be no time for it.
ORDER: Final = ("workers", "memory", "functions", "tinydb", "sandboxes", "calls")
QUEUED: Final = 20_000
ALLOWED: Final = 1.3
#: So many sandboxes may there be, waiting or running.
_SLOTS: Final = 310
Grow = Callable[[int], AbstractContextManager[Product]]


@contextmanager
def of_functions(count: int) -> Iterator[Product]:
    """Run an installation with so many functions."""
    with running("process", slots=2) as product:
        for number in range(count - 1):
            product.register(f"other{number}", f"{ECHO}# {number}\n", entry="test.main")
        yield product


@contextmanager
def of_calls(store: str, count: int) -> Iterator[Product]:
    """Run an installation whose store holds so many finished calls."""

    def fill(folder: Path) -> None:
        with opened(store, "fresh", folder) as made:
            reserve_and_fill(Desk(made, "benchmark"), count)

    with running("process", slots=2, options=["--store", store], before=fill) as product:
        yield product


@contextmanager
def of_workers(count: int) -> Iterator[Product]:
    """Run a control plane with so many simulated workers."""
    with plane.running() as product, plane.simulated(product, count):
        yield product


@contextmanager
def of_sandboxes(count: int) -> Iterator[Product]:
    """Run a node on which so many sandboxes of another function wait."""
    with running("process", slots=_SLOTS) as product:
        product.register(
            "idle", ECHO, entry="test.main", preload="function", minWarm=count, maxWarm=count
        )
        end = time.monotonic() + 240
        while len(memory.miniworkers(product.folder)) < count:
            if time.monotonic() > end:
                there = len(memory.miniworkers(product.folder))
                raise RuntimeError(f"only {there} of {count} sandboxes came up")
            time.sleep(0.5)
        yield product


AXES: Final[dict[str, Grow]] = {
    "functions": of_functions,
    "calls": partial(of_calls, "sqlite"),
    "tinydb": partial(of_calls, "tinydb"),
    "workers": of_workers,
    "sandboxes": of_sandboxes,
}


def compare(axis: str, results: Results, rounds: int, calls: int) -> None:
    """Measure small and large in turns, one round after another."""
    with ExitStack() as stack:
        pair = {size: stack.enter_context(AXES[axis](size)) for size in SIZES[axis]}
        for product in pair.values():
            warm_up(product)
        for turn in range(rounds):
            sheet = Sheet.begun()
            for size in sorted(pair, reverse=bool(turn % 2)):
                one_client(sheet, f"{axis}.{size}", pair[size], calls)
            results.add(sheet)


def warm_up(product: Product) -> None:
    """Call until what waits is warm, and what starts has started."""
    load = product.invocation("echo")
    measure(replace(load, calls=200))
    # Records are still being sealed, and places filled.
    cost.until_at_rest(product.folder)


def one_client(sheet: Sheet, name: str, product: Product, calls: int) -> None:
    """Measure p50, and the CPU of all of skep's processes, by the call."""
    before = cost.cpu_ms(product.folder)
    found = measure(replace(product.invocation("echo"), calls=calls))
    spent = cost.per_call(before, cost.cpu_ms(product.folder), calls)
    took = sorted(1000 * one for one in found["latencies"])
    sheet.put(f"{name}.p50_ms", quantile(took, 0.5))
    sheet.put(f"{name}.cpu_ms", sum(spent.values()))


def by_the_call(results: Results) -> None:
    """Measure what memory a queued and a recorded call take in the api, in bytes."""
    sheet = Sheet.begun()
    with plane.running() as product:
        with plane.simulated(product, 1, slots=0):
            _promise(product, 100)
            before = memory.room_mb(product.folder, "api")
            _promise(product, QUEUED)
            queued = memory.room_mb(product.folder, "api") - before
            sheet.put("memory.queued_bytes", 1e6 * queued / QUEUED)
        with plane.simulated(product, 2):
            until_idle(product)
            sheet.put("memory.after_queue_mb", memory.room_mb(product.folder, "api") - before)
            _ended(product, QUEUED)
            first = memory.room_mb(product.folder, "api")
            _ended(product, 2 * QUEUED)
            grown = memory.room_mb(product.folder, "api") - first
            sheet.put("memory.recorded_bytes", 1e6 * grown / (2 * QUEUED))
    results.add(sheet)


def _promise(product: Product, calls: int) -> None:
    """Have so many calls accepted, a hundred in a request."""
    load = product.batch("echo", 100)
    load = replace(load, url=load.url.partition("?")[0], every=b'"status":202')
    measure(replace(load, calls=calls // 100))


def _ended(product: Product, calls: int) -> None:
    """Have so many calls done, a hundred in a request."""
    measure(replace(product.batch("echo", 100), clients=2, calls=calls // 100))


def ratio(rounds: list[dict[str, float]], axis: str, what: str) -> Spread | None:
    """Return the large over the small of each round; None: not run."""
    small, large = (f"{axis}.{size}.{what}" for size in SIZES[axis])
    found = [one[large] / one[small] for one in rounds if one.get(small) and large in one]
    return Spread.of(found) if found else None


def verdicts(rounds: list[dict[str, float]]) -> list[str]:
    """Return a line for each axis: what the large one costs over the small one."""
    lines = []
    for axis, (small, large) in SIZES.items():
        for what in ("p50_ms", "cpu_ms"):
            found = ratio(rounds, axis, what)
            name = f"{axis}, {small:,} to {large:,}: {what}"
            if found is None:
                lines.append(f"{name:44} not run")
                continue
            said = "ok" if found.median <= ALLOWED else "MISSED"
            if found.holds(ALLOWED):
                said += ", within the noise"
            spread = f"[{found.least:.2f} to {found.most:.2f}]"
            lines.append(f"{name:44} x {found.median:.2f} {spread}, at most {ALLOWED}   {said}")
    return lines


def _measured(axis: str, results: Results, rounds: int, calls: int) -> None:
    try:
        if axis == "memory":
            by_the_call(results)
        else:
            compare(axis, results, rounds, calls)
    except (RuntimeError, OSError) as error:
        # The other axes are worth having; this one is named wherever they are shown.
        sheet = Sheet.begun()
        sheet.absent[axis] = str(error)
        results.add(sheet)
        print(f"{axis}: {error}")


def main() -> None:
    """Measure the axes, print table and verdicts, keep the results."""
    parser = options(__doc__, rounds=5, calls=500)
    parser.add_argument("--axes", default=",".join(ORDER))
    parser.add_argument("--minutes", type=float, default=10, help="begin no axis beyond")
    given = parser.parse_args()
    results = begun("growth", given)
    start = time.monotonic()
    for axis in given.axes.split(","):
        began = time.monotonic()
        if began > start + 60 * given.minutes:
            sheet = Sheet.begun()
            sheet.absent[axis] = f"not begun within {given.minutes:g} minutes (--minutes)"
            results.add(sheet)
        else:
            _measured(axis, results, given.rounds, given.calls)
        print(f"{axis}: {time.monotonic() - began:.0f} s", flush=True)
    print(table(results.rounds))
    print("\n".join(verdicts(results.rounds)))
    print(f"kept in {results.file.name}")


if __name__ == "__main__":
    main()
