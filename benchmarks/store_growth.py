"""What recording a call costs when few and when many are stored.

Fills a store, and at each size measures one commit at a time (a batch of one: the worst
case) and commits of a hundred. The cost must not grow with the size.

    python -m benchmarks.store_growth [--sizes 1000,100000] [--store tinydb|sqlite|memory|URL]

A postgresql:// URL names a database that is emptied first.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from dbnode.desk import Desk
from dbnode.opening import opened
from wire.models import Call, CallRecord, Status
from wire.records import LeaseCalls, WriteCalls

RESULTS: Final = Path(__file__).parent / "results"
BATCH: Final = 100
SAMPLES: Final = 150
#: Numbers in one lease.
LEASE: Final = 1024


def record(num: int, rev: int, status: Status) -> CallRecord:
    """Return a record of the size that a small call has."""
    call = Call(
        func_name=f"function{num % 7}",
        params=msgspec.Raw(b'{"roll":"4d6"}'),
        call_num=num,
        status=status,
        result="[4,6,4,3]" if status.is_terminal else "",
        id=f"00000000-0000-0000-0000-{num:012d}",
        runtime_name="python",
        revision=1,
        accepted_at="2026-01-01T00:00:00.000Z",
    )
    return CallRecord(
        call=call,
        rev=rev,
        api="api",
        epoch=1,
        runtime_revision=1,
        timeout_ms=5000,
        max_wait_ms=600_000,
    )


def commit(desk: Desk, first: int, count: int, rev: int, status: Status) -> float:
    """Record some calls in one batch; return what it took in milliseconds."""
    some = tuple(record(num, rev, status) for num in range(first, first + count))
    began = time.perf_counter()
    desk.answer([WriteCalls(api="api", epoch=1, records=some)])
    if desk.is_untidy:
        desk.tidy()
    return (time.perf_counter() - began) * 1000


def fill(desk: Desk, first: int, last: int) -> None:
    """Record finished calls up to a number."""
    for begin in range(first, last + 1, 1000):
        commit(desk, begin, min(1000, last + 1 - begin), 1, Status.DONE)


def reserve_and_fill(desk: Desk, count: int) -> None:
    """Record so many finished calls whose numbers no later api will give again."""
    lease = LeaseCalls(api="api", epoch=1, count=LEASE)
    for _ in range(0, count, LEASE):
        desk.answer([lease])
    fill(desk, 1, count)


def measure(desk: Desk, stored: int) -> dict[str, Any]:
    """Record calls beyond those that are stored, accepted and finished each."""
    single = []
    for num in range(stored + 1, stored + 1 + SAMPLES):
        single.append(commit(desk, num, 1, 1, Status.PENDING))
        single.append(commit(desk, num, 1, 2, Status.DONE))
    batches = []
    first = stored + 1 + SAMPLES
    for begin in range(first, first + 10 * BATCH, BATCH):
        batches.append(commit(desk, begin, BATCH, 1, Status.PENDING))
        batches.append(commit(desk, begin, BATCH, 2, Status.DONE))
    return {
        "stored": stored,
        "single_ms_p50": round(statistics.median(single), 3),
        "single_ms_p95": round(statistics.quantiles(single, n=20)[-1], 3),
        "batched_us_per_record": round(statistics.median(batches) * 1000 / BATCH, 1),
    }


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    click.echo("".join(f"{value!s:>24}" for value in row.values()))


@click.command()
@click.option("--sizes", default="1000,100000", show_default=True, help="Calls stored.")
@click.option("--store", "name", default="tinydb", help="A store by its name.")
def main(sizes: str, name: str) -> None:
    """Show that recording a call costs the same however many are stored."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = stack.enter_context(opened(name, "fresh", Path(folder)))
        desk = Desk(store, "benchmark")
        stored = 0
        for size in (int(each) for each in sizes.split(",")):
            fill(desk, stored + 1, size)
            rows.append(measure(desk, size))
            stored = size + SAMPLES + 10 * BATCH
            if len(rows) == 1:
                show({head: head for head in rows[0]})
            show(rows[-1])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"store_growth_{store.name}.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    click.echo(f"written to {path}")


if __name__ == "__main__":
    main()
