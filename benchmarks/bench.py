"""The product beside controls and peers, interleaved in one run: latency, rates, CPU, memory.

    make bench-quick        # two minutes
    make bench              # twenty at most
    python -m benchmarks.bench [--rounds N] [--calls N] [--sandbox process,docker]
                               [--parts warm,curve,fresh,peers]
    python -m benchmarks.bench --rounds 1 --into FILE      # one round more of that run

Every round starts everything anew and measures every row once, so that all meet the same
machine; another row comes first each time. What is kept is each row of each round, what is
shown is the median and the spread of the rounds. The results go to
``benchmarks/results/bench-*.json``; ``benchmarks/gate.py`` and ``benchmarks.report`` read them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import controls, narrow, wide
from benchmarks.container_start import bare
from benchmarks.load import Load, measure
from benchmarks.peers.running import PEERS, Absent
from benchmarks.product import running
from benchmarks.results import Sheet, begun, options, table
from miniworker.engine import Engine

Work = list[tuple[str, Callable[[], None]]]
#: What of a round may be left out, so that a piece of a run stays short.
PARTS: Final = ("warm", "curve", "fresh", "peers")
#: Calls of a peer: the slowest does some hundred a second.
PEER_CALLS: Final = 500


@dataclass(frozen=True)
class Plan:
    """What a round measures."""

    calls: int
    sandboxes: Sequence[str]
    image: str
    parts: Sequence[str]

    def has(self, part: str) -> bool:
        """Return whether a part of the rows is measured."""
        return part in self.parts


def one_round(sheet: Sheet, plan: Plan, turn: int) -> None:
    """Measure each row once, beginning with another one each turn."""
    with ExitStack() as stack:
        is_narrow = plan.has("warm") or plan.has("curve")
        up = [
            stack.enter_context(running(name, slots=2, image=plan.image))
            for name in plan.sandboxes
            if is_narrow
        ]
        for product in up:
            measure(replace(product.invocation("echo"), clients=4, calls=400))
        hello = stack.enter_context(controls.hello())
        pool = stack.enter_context(controls.pool())
        work = _of_controls(sheet, plan, hello, pool)
        for product in up:
            name = product.sandbox
            if plan.has("warm"):
                work += [(name, each) for each in narrow.rows(sheet, product, plan.calls)]
            if plan.has("curve"):
                load = product.invocation("echo")
                work.append((name, partial(narrow.curve, sheet, name, load, plan.calls)))
        _run(sheet, _from(work, 3 * turn))
    fresh: Work = [
        (name, partial(wide.measure_all, sheet, name, plan.image, plan.calls))
        for name in plan.sandboxes
    ]
    if plan.has("fresh"):
        _run(sheet, _from(fresh, turn))


def _of_controls(sheet: Sheet, plan: Plan, hello: Load, pool: controls.Pool) -> Work:
    echo = replace(hello, url=f"{hello.url}echo", body=_megabyte())
    work: Work = [
        ("pool", partial(_pool, sheet, pool, plan)),
        ("hello", partial(narrow.one_client, sheet, "hello", hello, plan.calls)),
        ("hello", partial(narrow.crowd, sheet, "hello", hello, plan.calls)),
        ("bare", partial(narrow.large, sheet, "bare", echo)),
        ("fork", partial(_floors, sheet, plan)),
    ]
    if plan.has("curve"):
        work.append(("hello", partial(narrow.curve, sheet, "hello", hello, plan.calls)))
    if plan.has("peers"):
        work += [(name, partial(_peer, sheet, name)) for name in PEERS]
    else:
        sheet.absent |= dict.fromkeys(PEERS, "left out (--parts)")
    return work


def _from(work: Work, turn: int) -> Work:
    at = turn % len(work)
    return [*work[at:], *work[:at]]


def _run(sheet: Sheet, work: Work) -> None:
    for name, measure_one in work:
        try:
            measure_one()
        except (RuntimeError, OSError, subprocess.SubprocessError, SystemExit, Absent) as error:
            # The other rows are worth having; this one is named wherever they are shown.
            sheet.absent[name] = str(error)
            print(f"{name}: {error}", flush=True)


def _megabyte() -> bytes:
    # As large as what the product is asked for.
    return json.dumps({"text": controls.MEGABYTE}).encode()


def _pool(sheet: Sheet, pool: controls.Pool, plan: Plan) -> None:
    sheet.quantiles("pool", pool.one_by_one(plan.calls))
    sheet.put("pool.rate", pool.rate(4 * plan.calls))
    if plan.has("curve"):
        for clients in narrow.CURVE:
            sheet.put(f"pool.rate_of_{clients}", pool.rate(plan.calls, clients))


def _peer(sheet: Sheet, name: str) -> None:
    for row, value in PEERS[name](PEER_CALLS).items():
        sheet.put(row, value)


def _floors(sheet: Sheet, plan: Plan) -> None:
    sheet.put("fork_process.p50_ms", 1000 * controls.fork_and_wait(None))
    if "docker" not in plan.sandboxes:
        return
    sheet.put("fork_docker.p50_ms", 1000 * controls.fork_and_wait(plan.image))
    engine, folder = Engine(version="auto"), Path(tempfile.mkdtemp(prefix="skep-bench-"))
    folder.chmod(0o755)
    try:
        starts = sorted(bare(engine, folder, plan.image) for _ in range(wide.FIRST))
        sheet.put("container.start_ms", 1000 * starts[len(starts) // 2])
    finally:
        engine.close()
        shutil.rmtree(folder)


def main() -> None:
    """Measure, print the table, keep the results."""
    parser = options(__doc__, rounds=5, calls=1500)
    parser.add_argument("--sandbox", default="process,docker")
    parser.add_argument("--image", default="pythonruntime")
    parser.add_argument("--parts", default=",".join(PARTS), help="beside the controls")
    parser.add_argument("--minutes", type=float, default=19, help="begin no round beyond")
    given = parser.parse_args()
    plan = Plan(
        calls=given.calls,
        sandboxes=given.sandbox.split(","),
        image=given.image,
        parts=given.parts.split(","),
    )
    results = begun("bench", given)
    start, longest_s = time.monotonic(), 0.0
    for _ in range(given.rounds):
        began = time.monotonic()
        if began + longest_s > start + 60 * given.minutes:
            print(f"no further round fits into {given.minutes:g} minutes (--minutes)")
            break
        sheet = Sheet.begun()
        try:
            one_round(sheet, plan, len(results.rounds))
        finally:
            # Also of a round that was broken off: what it has is measured.
            results.add(sheet)
        longest_s = max(longest_s, time.monotonic() - began)
        print(f"round {len(results.rounds)}: {longest_s:.0f} s at most", flush=True)
    print(table(results.rounds))
    print(f"kept in {results.file.name}")


if __name__ == "__main__":
    main()
