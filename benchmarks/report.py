"""Writes the tables and pictures of docs/performance.md from the newest results.

    python -m benchmarks.report [--bench FILE] [--growth FILE] [--stores FILE]

What stands between ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->`` is written anew; all
else on the page is left. Kinds of results that are not there leave their tables as they are.
Pictures need matplotlib (``pip install '.[bench]'``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import growth, pictures
from benchmarks.gate import RESULTS, SANDBOXES, Spread, Target, read, targets, values

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "performance.md"
Rounds = Sequence[dict[str, float]]
#: What is measured by one client and by 32: name of the rows -> what it is.
SYSTEMS: Final = {
    "docker": "**skep, docker sandboxes**",
    "process": "**skep, process sandboxes**",
    "pool": "control: ProcessPoolExecutor(2)",
    "hello": "control: aiohttp + uvloop hello",
    "functions-framework": "peer: functions-framework, its own server",
    "parsl": "peer: Parsl HTEX, 2 workers",
    "celery": "peer: Celery + Redis, prefork 2",
}
_ROOMS: Final = ("api", "dbnode", "worker", "miniworker", "agent", "all")


def number(value: float) -> str:
    """Return a number with three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def shown(found: Spread | None) -> str:
    """Return median and spread; a dash for what was not run."""
    if found is None:
        return "-"
    spread = f" [{number(found.least)} to {number(found.most)}]" if found.count > 1 else ""
    return f"{number(found.median)}{spread}"


def spread(rounds: Rounds, row: str) -> Spread | None:
    """Return the spread of a row over its rounds; None: not run."""
    found = values(rounds, row)
    return Spread.of(found) if found else None


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def machine(results: dict[str, Any]) -> str:
    """Return what the figures were measured on."""
    about, count = results["about"], len(results["rounds"])
    load = Spread.of(values(results["rounds"], "machine.load") or about["load_before"])
    is_busy = load.median > about["processors"]
    warning = (
        " **The machine was busy with other work: ratios of these rounds say little, and what"
        " is missed here may be met on an idle one.**"
    )
    return (
        f"{about['processors']} processors ({about['model']}), {about['memory_gib']} GiB, "
        f"{about['system']}, Python {about['python']}, engine {about['engine']}; commit "
        f"{about['commit']}; {count} rounds or parts of rounds, {about['calls']} calls a row; "
        f"load average when they began: {shown(load)}.{warning if is_busy else ''}"
    )


def verdict(target: Target, rounds: Rounds) -> str:
    """Return what was measured of a target, and whether that is good enough."""
    found = target.measured(rounds)
    if found is None:
        return "not run"
    if found.holds(target.must):
        return f"{shown(found)}: within the noise of it"
    if not target.is_met(found.median):
        return f"{shown(found)}: **missed**"
    return f"{shown(found)}: {'as wanted' if target.is_wanted(found.median) else 'met'}"


def of_targets(results: dict[str, Any]) -> str:
    """Return the table of targets, with what was measured of each."""
    rounds, lines = results["rounds"], []
    both = [targets(sandbox) for sandbox in SANDBOXES]
    for pair in zip(*both, strict=True):
        one = pair[0]
        sign = ">=" if one.at_least else "<="
        told = [verdict(target, rounds) for target in pair]
        lines.append([one.what, f"{sign} {one.must:g}", f"{one.want:g}", *told])
    return table(["target", "must", "want", *SANDBOXES], lines)


def compared(rounds: Rounds, name: str, row: str, *, more_is_better: bool) -> str:
    """Return how a system compares with skep in docker: in words only beyond the noise."""
    ours, theirs = spread(rounds, f"docker.{row}"), spread(rounds, f"{name}.{row}")
    if name in SANDBOXES or ours is None or theirs is None:
        return ""
    if ours.overlaps(theirs):
        return "no difference beyond the noise"
    times = theirs.median / ours.median
    is_worse = (times > 1) is more_is_better
    return f"skep {'loses' if is_worse else 'wins'}, x {number(max(times, 1 / times))}"


def of_systems(results: dict[str, Any]) -> str:
    """Return the table of warm calls: skep, controls, peers."""
    rounds, lines = results["rounds"], []
    absent = results.get("absent", {})
    for name, what in SYSTEMS.items():
        if spread(rounds, f"{name}.p50_ms") is None:
            lines.append([what, f"not run: {absent.get(name, 'left out')}", "", "", "", ""])
            continue
        cells = [shown(spread(rounds, f"{name}.{row}")) for row in ("p50_ms", "p99_ms", "rate")]
        p50 = compared(rounds, name, "p50_ms", more_is_better=False)
        rate = compared(rounds, name, "rate", more_is_better=True)
        lines.append([what, *cells, p50, rate])
    head = ["", "p50 ms", "p99 ms", "calls/s, 32 clients", "docker's p50", "docker's calls/s"]
    return table(head, lines)


#: Row of an installation, or of a control -> what it says.
_OTHERS: Final = {
    "{}.crowd_p50_ms": "32 clients, p50, ms",
    "{}.crowd_p99_ms": "32 clients, p99, ms",
    "{}.open_p50_ms": "open loop at half that rate, p50, ms",
    "{}.open_p99_ms": "open loop at half that rate, p99, ms",
    "{}.batch_rate": "batches of 100, calls/s",
    "{}.promise_rate": "durable 202s/s, 32 clients",
    "{}.script.p50_ms": "script, p50, ms",
    "fork_{}.p50_ms": "control: bare fork and wait, ms",
    "{}.first_ms": "first call, nothing preloaded, ms",
    "{}.preloaded_ms": "first call, runtime preloaded, ms",
    "{}.alone_p99_ms": "fast alone, p99, ms",
    "{}.beside_p99_ms": "fast beside eight slow, p99, ms",
    "{}.mb_p50_ms": "1 MB there and back, p50, ms",
    "{}.control_mb": "api, DB node, worker at rest, PSS, MB",
    "{}.miniworker_mb": "one miniworker more, private, MB",
}


def of_rows(results: dict[str, Any]) -> str:
    """Return the table of all other rows."""
    rounds = results["rounds"]
    lines = [
        [what, *(shown(spread(rounds, row.format(sandbox))) for sandbox in SANDBOXES)]
        for row, what in _OTHERS.items()
    ]
    for row, what in (
        ("container.start_ms", "control: bare create, start, first byte, ms"),
        ("bare.mb_p50_ms", "control: 1 MB through a bare aiohttp echo, p50, ms"),
    ):
        lines.append([what, shown(spread(rounds, row)), "the same"])
    return table(["", *SANDBOXES], lines)


def of_rooms(results: dict[str, Any]) -> str:
    """Return the table of the CPU that each room spends on a call."""
    rounds, lines = results["rounds"], []
    for sandbox in SANDBOXES:
        for how, what in (("one", "one client"), ("crowd", "32 clients")):
            rows = [f"{sandbox}.cpu_{how}.{room}_ms" for room in _ROOMS]
            lines.append([f"{sandbox}, {what}", *(shown(spread(rounds, row)) for row in rows)])
    head = ["ms of CPU per call", "api", "DB node", "worker", "miniworker", "agent", "together"]
    return table(head, lines)


def of_growth(results: dict[str, Any]) -> str:
    """Return the table of what more of everything costs."""
    rounds, lines = results["rounds"], []
    for axis, (small, large) in growth.SIZES.items():
        for what, unit in (("p50_ms", "p50, ms"), ("cpu_ms", "CPU of a call, ms")):
            found = growth.ratio(rounds, axis, what)
            cells = [shown(spread(rounds, f"{axis}.{size}.{what}")) for size in (small, large)]
            said = f"not run: {results.get('absent', {}).get(axis, 'left out')}"
            if found is not None:
                said = "met" if found.median <= growth.ALLOWED else "**missed**"
                said = "within the noise of it" if found.holds(growth.ALLOWED) else said
            name = growth.NAMES[axis]
            lines.append([f"{name}: {small:,} and {large:,}", unit, *cells, shown(found), said])
    head = ["", "", "few", "many", "many over few", f"at most {growth.ALLOWED}"]
    return table(head, lines)


def of_memory(results: dict[str, Any]) -> str:
    """Return what memory calls take in the api."""
    rounds = results["rounds"]
    rows = {
        "memory.queued_bytes": "a call that waits in the queue (60 bytes of params), bytes",
        "memory.recorded_bytes": "a call that ended and is recorded, bytes",
        "memory.after_queue_mb": f"{growth.QUEUED:,} queued calls have ended: what is left, MB",
    }
    lines = [[what, shown(spread(rounds, row))] for row, what in rows.items()]
    return table(["memory of the api", ""], lines)


def of_stores(results: dict[str, Any]) -> str:
    """Return the table of the stores."""
    rounds, absent = results["rounds"], results.get("absent", {})
    rows = ("commit_ms", "records_rate", "promise_p50_ms", "promise_p99_ms", "promise_rate",
            "batch_rate")  # fmt: skip
    lines = []
    base = spread(rounds, "memory.promise_p50_ms")
    for store in ("memory", "sqlite", "tinydb", "postgresql"):
        cells = [shown(spread(rounds, f"{store}.{row}")) for row in rows]
        found, added = spread(rounds, f"{store}.promise_p50_ms"), "-"
        if base is not None and found is not None and store != "memory":
            over = found.median - base.median
            added = "within the noise" if base.overlaps(found) else f"{number(over)}"
        if store in absent:
            added = f"not run: {absent[store]}"
        lines.append([f"`{store}`", *cells[:3], added, *cells[3:]])
    head = ["store", "a commit of one, ms", "records/s, commits of 1,000", "202, p50, ms",
            "added to `memory`, ms", "202, p99, ms", "202s/s, 32 clients",
            "batches of 100, calls/s"]  # fmt: skip
    return table(head, lines)


SECTIONS: Final[dict[str, dict[str, Callable[[dict[str, Any]], str]]]] = {
    "bench": {
        "machine": machine,
        "targets": of_targets,
        "systems": of_systems,
        "rows": of_rows,
        "rooms": of_rooms,
    },
    "growth": {"growth machine": machine, "growth": of_growth, "memory": of_memory},
    "stores": {"stores machine": machine, "stores": of_stores},
}


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with the text of a section written anew.

    Raises:
        SystemExit: the page has no such section.
    """
    pattern = re.compile(
        rf"(<!-- {re.escape(name)}: [^\n]* -->\n)(?:.*?\n)?(<!-- end of {re.escape(name)} -->)",
        re.DOTALL,
    )
    found, count = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", page)
    if count != 1:
        raise SystemExit(f"the page has {count} sections {name!r}, not one")
    return found


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for kind in SECTIONS:
        parser.add_argument(f"--{kind}", type=Path, help="results; default: the newest")
    given = vars(parser.parse_args())
    page = PAGE.read_text(encoding="utf-8")
    for kind, sections in SECTIONS.items():
        files = sorted(RESULTS.glob(f"{kind}-*.json"))
        file = given[kind] or (files[-1] if files else None)
        if file is None:
            print(f"{kind}: no results, left as it is")
            continue
        results = read(file)
        for name, write in sections.items():
            page = replaced(page, name, write(results))
        pictures.draw(kind, results)
        print(f"{kind}: from {file.name}")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
