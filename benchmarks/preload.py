"""The first call of a new function under each preload policy, side by side in one run.

    python -m benchmarks.preload [--sandbox process|docker] [--image IMAGE] [--rounds N]

One node; in each round three new functions with packages of their own, one for each policy, and
a second call of one of them, which is warm in any case. The clock is the client's, around
one HTTP request. Targets: the first call under ``runtime`` takes at most a tenth of that under
``none``, and under ``function`` at most 1.5 times a warm one (p50); the exit status is 1 above.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.product import RUNTIME, package, started
from skep import Client

RESULTS: Final = Path(__file__).parent / "results"
HANDLER: Final = "def main(n):\n    return n * {factor}\n"
POLICIES: Final = ("none", "runtime", "function")
TARGET: Final = 0.1
#: A warm call has noise of its own.
AS_WARM: Final = 1.5


def _plain(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc)


def register(client: Client, name: str, policy: str, factor: int) -> None:
    """Register a new function under a policy."""
    options: dict[str, Any] = {"preload": policy, "idle": 2.0, "entry": "test.main"}
    client.register_function("bench", name, package(HANDLER.format(factor=factor)), **options)


def until(client: Client, what: Callable[[dict[str, Any]], bool]) -> None:
    """Wait for what a worker says of itself."""
    end = time.monotonic() + 60
    while not any(what(dict(one)) for one in client.workers()):
        if time.monotonic() > end:
            raise SystemExit(f"the pools do not fill: {client.workers()}")
        time.sleep(0.05)


def timed(plain: http.client.HTTPConnection, name: str) -> tuple[float, dict[str, Any]]:
    """Call a function; return the milliseconds that its caller waited, and the record."""
    # As curl would: without a key, which would have to be stored first under any policy.
    body = json.dumps({"funcName": name, "params": {"n": 2}})
    began = time.perf_counter()
    plain.request("POST", "/invokeFunction?wait=30", body, {"Content-Type": "application/json"})
    call: dict[str, Any] = json.loads(plain.getresponse().read())
    took_ms = (time.perf_counter() - began) * 1000
    if call.get("status") != "DONE":
        raise SystemExit(f"{name}: {call}")
    return took_ms, call


#: Of each kind of call, the stages that its records tell.
STAGES: dict[str, list[dict[str, float]]] = {}


def one_round(
    client: Client, plain: http.client.HTTPConnection, number: int
) -> dict[str, float]:
    """Return what each first call took, and a warm one, in an order that changes."""
    names = {policy: f"{policy}{number}" for policy in POLICIES}
    for at, (policy, name) in enumerate(names.items()):
        register(client, name, policy, 3 * number + at + 2)
    turn = number % len(POLICIES)
    found: dict[str, float] = {}
    for policy in (*POLICIES[turn:], *POLICIES[:turn]):
        until(client, lambda one: _is_full(one, names["function"]))
        found[policy], call = timed(plain, names[policy])
        check(policy, call)
    found["warm"], call = timed(plain, names["function"])
    check("warm", call)
    for name in names.values():
        client.delete_function(name)
    return found


def _is_full(worker: dict[str, Any], function: str) -> bool:
    is_loaded = any(f"/{function}@" in key for key in worker["warm"])
    return is_loaded and worker["generic"].get("bench", 0) >= 2


def check(policy: str, call: dict[str, Any]) -> None:
    """Refuse to measure something else than was meant."""
    expected = "cold" if policy in ("none", "runtime") else "warm"
    why = call["attempts"][-1]["why"]
    STAGES.setdefault(policy, []).append(call["stages"])
    if call["start"] != expected or ("generic" in why) is not (policy == "runtime"):
        raise SystemExit(f"under {policy} a first call was {call['start']}: {why}")


def main() -> None:
    """Print medians and ratios, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sandbox", choices=["process", "docker"], default="process")
    parser.add_argument("--image", default=RUNTIME["image"])
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    runtime = {**RUNTIME, "image": given.image, "name": "bench", "dependencies": ""}
    rows: list[dict[str, float]] = []
    with (
        started(given.sandbox, slots=8) as product,
        closing(_plain(product.url)) as plain,
    ):
        client = product.client
        client.register_runtime(runtime)
        # So that the pool is filled for the first round; not measured.
        register(client, "before", "runtime", 1)
        rows.extend(one_round(client, plain, number) for number in range(given.rounds))
    p50 = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
    ratios = {
        "runtime/none": round(p50["runtime"] / p50["none"], 3),
        "function/warm": round(p50["function"] / p50["warm"], 3),
    }
    facts = {
        "sandbox": given.sandbox,
        "rounds": given.rounds,
        "p50_ms": p50,
        "ratios": ratios,
        "stages_p50_ms": {name: _medians(told) for name, told in STAGES.items()},
    }
    print(json.dumps(facts, indent=2))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"preload_{given.sandbox}.json").write_text(json.dumps(facts, indent=2) + "\n")
    ok = ratios["runtime/none"] <= TARGET and ratios["function/warm"] <= AS_WARM
    sys.exit(0 if ok else 1)


def _medians(told: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in told for name in one)
    return {n: round(statistics.median(one.get(n, 0.0) for one in told), 2) for n in names}


if __name__ == "__main__":
    main()
