"""Rows of an installation with two slots: what a warm call costs, and how many there can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from benchmarks import cost
from benchmarks.load import Load, measure
from benchmarks.product import Product
from benchmarks.results import Sheet

CROWD: Final = 32
BATCH: Final = 100
BATCH_CLIENTS: Final = 4
#: Clients at which the rate is measured for the curve.
CURVE: Final = (1, 2, 4, 8, 16, 32, 64)
_LARGE: Final = 30


def rows(sheet: Sheet, product: Product, calls: int) -> list[Callable[[], None]]:
    """Return what measures each row of an installation."""
    name = product.sandbox
    echo = product.invocation("echo")
    return [
        lambda: one_client(sheet, name, echo, calls, product.folder),
        lambda: crowd(sheet, name, echo, calls, product.folder),
        lambda: batch(sheet, product, calls),
        lambda: promises(sheet, product, calls),
        lambda: script(sheet, product, calls),
        lambda: large(sheet, name, product.large("echo")),
    ]


def one_client(sheet: Sheet, name: str, load: Load, calls: int, folder: str = "") -> None:
    """Measure the latency of a client that is alone, and the CPU of its calls."""
    measure(replace(load, calls=50))
    before = cost.cpu_ms(folder) if folder else None
    found = measure(replace(load, calls=calls))
    if before is not None:
        _cpu(sheet, f"{name}.cpu_one", cost.per_call(before, cost.cpu_ms(folder), calls))
    sheet.quantiles(name, found["latencies"])


def crowd(sheet: Sheet, name: str, load: Load, calls: int, folder: str = "") -> None:
    """Measure rate and latency of 32 clients, and the latency at half that rate."""
    many = replace(load, clients=CROWD, calls=2 * calls)
    measure(replace(many, calls=10 * CROWD))
    before = cost.cpu_ms(folder) if folder else None
    found = measure(many)
    if before is not None:
        _cpu(sheet, f"{name}.cpu_crowd", cost.per_call(before, cost.cpu_ms(folder), many.calls))
    rate = many.calls / found["seconds"]
    sheet.put(f"{name}.rate", rate)
    sheet.quantiles(name, found["latencies"], "crowd_")
    half = measure(replace(many, calls=calls, rate=rate / 2))
    sheet.quantiles(name, half["latencies"], "open_")


def curve(sheet: Sheet, name: str, load: Load, calls: int) -> None:
    """Measure the rate by the number of clients."""
    for clients in CURVE:
        asked = max(calls // 4 if clients < 4 else calls // 2, 5 * clients)
        found = measure(replace(load, clients=clients, calls=asked))
        sheet.put(f"{name}.rate_of_{clients}", asked / found["seconds"])


def batch(sheet: Sheet, product: Product, calls: int) -> None:
    """Measure the rate of calls that come a hundred in a request, to their ends."""
    requests = max(3 * BATCH_CLIENTS, 4 * calls // BATCH)
    load = replace(product.batch("echo", BATCH), clients=BATCH_CLIENTS)
    measure(replace(load, calls=BATCH_CLIENTS))
    found = measure(replace(load, calls=requests))
    sheet.put(f"{product.sandbox}.batch_rate", requests * BATCH / found["seconds"])


def promises(sheet: Sheet, product: Product, calls: int, name: str = "") -> None:
    """Measure durable 202s a second, while earlier calls are executed."""
    load = product.invocation("echo", waits=False)
    found = measure(replace(load, clients=CROWD, calls=calls))
    sheet.put(f"{name or product.sandbox}.promise_rate", calls / found["seconds"])
    until_idle(product)


def script(sheet: Sheet, product: Product, calls: int) -> None:
    """Measure a fresh process for each call (``python3 test.py``)."""
    load = product.invocation("script")
    measure(replace(load, calls=5))
    found = measure(replace(load, calls=max(20, calls // 20)))
    sheet.quantiles(f"{product.sandbox}.script", found["latencies"])


def large(sheet: Sheet, name: str, load: Load) -> None:
    """Measure a megabyte there and back, one client."""
    measure(replace(load, calls=3))
    found = measure(replace(load, calls=_LARGE))
    sheet.quantiles(name, found["latencies"], "mb_")


def until_idle(product: Product) -> None:
    """Wait until what was promised is done: the next row shall not pay for it."""
    end = time.monotonic() + 120
    while any(
        product.client.calls(status=status, limit=1) for status in ("PENDING", "RUNNING")
    ):
        if time.monotonic() > end:
            raise SystemExit("calls do not end")
        time.sleep(0.1)


def _cpu(sheet: Sheet, name: str, spent: dict[str, float]) -> None:
    for room, each in spent.items():
        sheet.put(f"{name}.{room}_ms", each)
    sheet.put(f"{name}.all_ms", sum(spent.values()))
