"""What each store costs: records a second, and the wait for an acknowledged asynchronous call.

    make bench-stores       # three minutes
    python -m benchmarks.stores [--stores memory,tinydb,sqlite,postgresql]
                                [--rounds N] [--calls N] [--into FILE]

One installation for each store, all up at once and measured in turns. What ``memory`` needs is
everything but durability: what another needs more is what its acknowledgement adds. Results go
to ``benchmarks/results/stores-*.json``. PostgreSQL is Debian's, with its defaults.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks import narrow, postgres, store_growth
from benchmarks.load import measure
from benchmarks.product import Product, running
from benchmarks.results import Results, Sheet, begun, options, table
from dbnode.desk import Desk
from dbnode.opening import opened
from wire.models import Status

STORES: Final = ("memory", "tinydb", "sqlite", "postgresql")
_BATCHES: Final = 10
_SINGLE: Final = 50


def one_round(sheet: Sheet, up: dict[str, Product], calls: int) -> None:
    """Measure each installation."""
    for store, product in up.items():
        one = replace(product.invocation("echo", waits=False), calls=calls)
        measure(replace(one, calls=20))
        narrow.until_idle(product)
        sheet.quantiles(store, measure(one)["latencies"], "promise_")
        narrow.until_idle(product)
        narrow.promises(sheet, product, 2 * calls, store)
        load = replace(product.batch("echo", narrow.BATCH), clients=narrow.BATCH_CLIENTS)
        requests = max(12, 2 * calls // narrow.BATCH)
        took = measure(replace(load, calls=requests))["seconds"]
        sheet.put(f"{store}.batch_rate", requests * narrow.BATCH / took)


def bare_store(sheet: Sheet, store: str, url: str) -> None:
    """Measure a store without any process around it: records a second, and one commit."""
    with (
        tempfile.TemporaryDirectory(prefix="skep-bench-") as folder,
        opened(url, "fresh", Path(folder)) as made,
    ):
        desk = Desk(made, "benchmark")
        store_growth.fill(desk, 1, 1000)
        single = [
            store_growth.commit(desk, 1001 + number, 1, 1, Status.PENDING)
            for number in range(_SINGLE)
        ]
        began = time.perf_counter()
        for number in range(_BATCHES):
            store_growth.commit(desk, 2001 + 1000 * number, 1000, 1, Status.DONE)
        took_s = time.perf_counter() - began
    sheet.put(f"{store}.commit_ms", statistics.median(single))
    sheet.put(f"{store}.records_rate", _BATCHES * 1000 / took_s)


def main() -> None:
    """Measure, print the table, keep the results."""
    parser = options(__doc__, rounds=5, calls=400)
    parser.add_argument("--stores", default=",".join(STORES))
    given = parser.parse_args()
    results = begun("stores", given)
    with ExitStack() as stack:
        absent: dict[str, str] = {}
        urls = _urls(stack, given.stores.split(","), absent)
        up = {
            store: stack.enter_context(running("process", slots=2, options=["--store", url]))
            for store, url in urls.items()
        }
        for _ in range(given.rounds):
            sheet = Sheet.begun()
            sheet.absent |= absent
            try:
                one_round(sheet, up, given.calls)
                for store, url in urls.items():
                    # The server's one database belongs to the installation that is up.
                    if store != "postgresql":
                        bare_store(sheet, store, url)
            finally:
                # Also of a round that was broken off: what it has is measured.
                results.add(sheet)
    _bare_postgresql(results, urls)
    print(table(results.rounds))
    print(f"kept in {results.file.name}")


def _urls(stack: ExitStack, stores: list[str], absent: dict[str, str]) -> dict[str, str]:
    found = {}
    for store in stores:
        try:
            url = stack.enter_context(postgres.running()) if store == "postgresql" else store
        except postgres.Absent as error:
            absent[store] = str(error)
            continue
        found[store] = url
    return found


def _bare_postgresql(results: Results, urls: dict[str, str]) -> None:
    if "postgresql" not in urls:
        return
    with postgres.running() as url:
        for _ in range(3):
            sheet = Sheet.begun()
            bare_store(sheet, "postgresql", url)
            results.add(sheet)


if __name__ == "__main__":
    main()
