"""Rows of a fresh installation with twelve slots: first calls, fast beside slow, memory."""

from __future__ import annotations

import http.client
import statistics
import time
from contextlib import closing
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from benchmarks import cost, memory
from benchmarks.gate import quantile
from benchmarks.load import begin, measure, result
from benchmarks.preload import timed, until
from benchmarks.product import ECHO, Product, running
from benchmarks.results import Sheet
from wire.liveness import HEARTBEAT_S

SLOTS: Final = 12
SLOW_CALLS: Final = 8
#: How long a fast function is called beside the slow one, and about how long a call takes.
_BESIDE_S: Final = 4
#: Until the slow calls run: they are cold at first.
_BUSY_S: Final = 30.0
FIRST: Final = 3


def measure_all(sheet: Sheet, sandbox: str, image: str, calls: int) -> None:
    """Start an installation, measure all rows of its kind, and stop it."""
    with running(sandbox, slots=SLOTS, image=image) as product:
        measure(replace(product.invocation("echo"), calls=20))
        first_calls(sheet, product)
        fast_beside_slow(sheet, product, calls)
        idle_memory(sheet, product)


def first_calls(sheet: Sheet, product: Product) -> None:
    """Measure the first call of new functions: nothing there, and the runtime preloaded."""
    netloc = urlsplit(product.url).netloc
    with closing(http.client.HTTPConnection(netloc)) as plain:
        cold = [_first(product, plain, f"cold{number}", "none") for number in range(FIRST)]
        _first(product, plain, "before", "runtime")
        tried = [_preloaded(product, plain, f"new{number}") for number in range(2 * FIRST)]
    sheet.put(f"{product.sandbox}.first_ms", statistics.median(cold))
    warmed = [took_ms for took_ms in tried if took_ms is not None][:FIRST]
    if warmed:
        sheet.put(f"{product.sandbox}.preloaded_ms", statistics.median(warmed))
    else:
        sheet.absent[f"{product.sandbox}.preloaded_ms"] = "no generic sandbox was there in time"


def _first(
    product: Product, plain: http.client.HTTPConnection, name: str, policy: str
) -> float:
    product.register(name, f"{ECHO}# {name}\n", entry="test.main", preload=policy)
    took_ms, call = timed(plain, name)
    if call["start"] != "cold":
        raise SystemExit(f"the first call of {name} was {call['start']}")
    product.client.delete_function(name)
    return took_ms


def _preloaded(product: Product, plain: http.client.HTTPConnection, name: str) -> float | None:
    """Return the ms of a first call that took a generic sandbox; None: it found none."""
    product.register(name, f"{ECHO}# {name}\n", entry="test.main", preload="runtime")
    # What workers say of themselves is as old as their last heartbeat.
    time.sleep(1.5 * HEARTBEAT_S)
    until(product.client, lambda one: one["generic"].get("bench", 0) >= 1)
    took_ms, call = timed(plain, name)
    product.client.delete_function(name)
    return took_ms if "generic" in call["attempts"][-1]["why"] else None


def fast_beside_slow(sheet: Sheet, product: Product, calls: int) -> None:
    """Measure a fast function alone, and beside eight calls of a second each."""
    name, echo = product.sandbox, product.invocation("echo")
    slow = replace(product.invocation("slow"), clients=SLOW_CALLS)
    measure(replace(slow, calls=SLOW_CALLS))
    alone = measure(replace(echo, calls=calls))
    fast = replace(echo, calls=max(100, min(calls, int(_BESIDE_S * calls / alone["seconds"]))))
    seconds = 2 + round(2 * fast.calls * alone["seconds"] / calls)
    others = begin(replace(slow, calls=SLOW_CALLS * seconds))
    _until_running(product, SLOW_CALLS)
    beside = measure(fast)
    is_whole = others.poll() is None
    result(others)
    if not is_whole:
        sheet.absent[f"{name}.beside_p99_ms"] = "the slow calls ended before the fast ones"
        return
    for row, found in (("alone", alone), ("beside", beside)):
        took = sorted(1000 * one for one in found["latencies"])
        sheet.put(f"{name}.{row}_p50_ms", quantile(took, 0.5))
        sheet.put(f"{name}.{row}_p99_ms", quantile(took, 0.99))


def _until_running(product: Product, count: int) -> None:
    """Wait until so many calls run at the same time."""
    end = time.monotonic() + _BUSY_S
    while len(product.client.calls(status="RUNNING", limit=count)) < count:
        if time.monotonic() > end:
            raise SystemExit(f"fewer than {count} calls run")
        time.sleep(0.01)


def idle_memory(sheet: Sheet, product: Product) -> None:
    """Measure what rests: the control plane, and one miniworker more."""
    cost.until_at_rest(product.folder)
    sheet.put(f"{product.sandbox}.control_mb", memory.control_mb(product.folder))
    each = [memory.private_mb(pid) for pid in memory.miniworkers(product.folder)]
    if each:
        sheet.put(f"{product.sandbox}.miniworker_mb", statistics.median(each))
    else:
        sheet.absent[f"{product.sandbox}.miniworker_mb"] = "no miniworker was left"
