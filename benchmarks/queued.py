"""What queued calls take in each process, and what is left when they have ended.

Fills the queue behind calls that hold every slot, until it is full and refuses; then lets all
of them run, and nobody fetches a result. Prints the memory of each process at every stage.

    python -m benchmarks.queued [--calls 100000] [--params 60]
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from api.metrics import LIVING
from benchmarks.load import Load, measure
from benchmarks.product import ECHO, Product, running
from skep import CallHandle

RESULTS: Final = Path(__file__).parent / "results"
SLOTS: Final = 2
CLIENTS: Final = 32
STEPS: Final = 4
HOLD: Final = "import time\n\n\ndef main():\n    time.sleep(290)\n"
#: How long the calls may wait, and take to end, in seconds.
MAX_WAIT_S: Final = 3600
_MODULES: Final = ("api", "dbnode", "worker", "miniworker")


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)


def resident(product: Product) -> dict[str, float]:
    """Return the resident memory of each process of skep, by name, in MiB."""
    found: dict[str, float] = {}
    for pid in _descendants(product.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        name = next((word for word in words if word in _MODULES), "")
        if name:
            kib = int(status.partition("VmRSS:")[2].split()[0])
            found[name] = max(found.get(name, 0.0), round(kib / 1024, 1))
    return found


def _read(product: Product, path: str) -> str:
    with urllib.request.urlopen(product.url + path) as answer:
        return str(answer.read().decode())


def _hold(product: Product) -> list[CallHandle]:
    """Let a call run in every slot."""
    product.register("hold", HOLD, entry="test.main", timeout=300)
    held = [product.client.submit("hold") for _ in range(SLOTS)]
    paths = [f"/call/{each.number}" for each in held]
    end = time.monotonic() + 60
    while {json.loads(_read(product, path))["status"] for path in paths} != {"RUNNING"}:
        if time.monotonic() > end:
            raise RuntimeError("the calls that hold the slots do not begin")
        time.sleep(0.1)
    return held


def _refusal(load: Load) -> str:
    """Return what the call is answered that is one too many."""
    request = urllib.request.Request(
        load.url, load.body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code}, Retry-After {error.headers['Retry-After']}"


def _wait_until_ended(product: Product) -> float:
    begun = time.monotonic()
    none = re.compile(rf"^{LIVING.name} 0(\.0)?$", re.MULTILINE)
    while not none.search(_read(product, "/metrics")):
        if time.monotonic() - begun > MAX_WAIT_S:
            raise RuntimeError("the calls do not end")
        time.sleep(1)
    return time.monotonic() - begun


def fill(product: Product, calls: int, params: int) -> dict[str, Any]:
    """Queue so many calls, let them end, and return what each stage took."""
    filling = {"text": "x" * max(0, params - 12)}
    load = product.invocation("echo", waits=False, params=filling)
    product.register("echo", ECHO, entry="test.main", maxWait=MAX_WAIT_S)
    held = _hold(product)
    stages = {"0 queued": resident(product)}
    seconds = 0.0
    for step in range(1, STEPS + 1):
        part = Load(load.url, load.body, load.expect, CLIENTS, calls // STEPS)
        seconds += measure(part)["seconds"]
        stages[f"{calls // STEPS * step} queued"] = resident(product)
        click.echo(f"{calls // STEPS * step} queued: {resident(product)}")
    refusal = _refusal(load)
    for each in held:
        each.cancel()
    ended_s = _wait_until_ended(product)
    stages["all ended"] = resident(product)
    grown = stages[f"{calls} queued"]["api"] - stages["0 queued"]["api"]
    return {
        "calls": calls,
        "params_bytes": params,
        "api_bytes_per_queued_call": round(grown * (1 << 20) / calls),
        "accepted_per_second": round(calls / seconds),
        "ended_per_second": round(calls / ended_s),
        "one_too_many": refusal,
        "resident_mib": stages,
    }


@click.command()
@click.option("--calls", default=100_000, show_default=True, type=click.IntRange(STEPS))
@click.option("--params", default=60, show_default=True, type=click.IntRange(12), help="Bytes.")
def main(calls: int, params: int) -> None:
    """Print the memory of each process while calls are queued, and when they have ended."""
    with running("process", slots=SLOTS, image="python:3.11") as product:
        found = fill(product, calls, params)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"queued-{params}.json").write_text(json.dumps(found, indent=2) + "\n")
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
