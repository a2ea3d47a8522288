"""Whether the newest results of ``make bench`` or ``make bench-quick`` meet the targets.

    python benchmarks/gate.py [FILE]

Standard library only. Each target is a ratio of two rows of one round (two are plain numbers),
so that it says the same on a slow machine as on a fast one. Prints what was measured and what
is allowed, names the targets whose rows were not run, and exits with 1 if one is missed.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SANDBOXES = ("docker", "process")
#: What one round measured: row -> value, in ms, MB or calls a second.
Round = Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """What several rounds say of one thing: the middle, the least and the most."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def overlaps(self, other: Spread) -> bool:
        """Return whether the two may be the same: one round each tells nothing apart."""
        if self.count < 2 or other.count < 2:
            return True
        return self.least <= other.most and other.least <= self.most

    def holds(self, value: float) -> bool:
        """Return whether some rounds lie on either side of a value."""
        return self.least <= value <= self.most and self.least < self.most


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("there is no quantile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def values(rounds: Sequence[Round], row: str) -> list[float]:
    """Return what the rounds that ran a row measured."""
    return [one[row] for one in rounds if row in one]


@dataclass(frozen=True)
class Target:
    """One row, or one row over another: at most, or at least, so much."""

    what: str
    row: str
    over: str | None
    must: float
    want: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a measured value is good enough."""
        return value >= self.must if self.at_least else value <= self.must

    def is_wanted(self, value: float) -> bool:
        """Return whether a measured value is as good as one could want."""
        return value >= self.want if self.at_least else value <= self.want

    def missing(self, rounds: Sequence[Round]) -> list[str]:
        """Return the rows that no round has."""
        rows = [self.row] if self.over is None else [self.row, self.over]
        return [row for row in rows if not values(rounds, row)]

    def measured(self, rounds: Sequence[Round]) -> Spread | None:
        """Return the ratio of each round by itself, for both rows met the same machine then.

        None: no round has both rows.
        """
        if self.over is None:
            found = values(rounds, self.row)
        else:
            both = (one for one in rounds if self.row in one and one.get(self.over))
            found = [one[self.row] / one[self.over] for one in both]
        return Spread.of(found) if found else None


def targets(sandbox: str) -> list[Target]:
    """Return what must hold of one kind of sandboxes."""
    s, pool, start = sandbox, "pool.rate", "container.start_ms"
    return [
        Target("warm call, one client, p50", f"{s}.p50_ms", "pool.p50_ms", 3.1, 2.7),
        Target("its p99 over its own p50", f"{s}.p99_ms", f"{s}.p50_ms", 3, 2),
        Target("calls/s, 32 clients", f"{s}.rate", pool, 0.48, 0.8, True),
        Target("p99 of 32 clients over p50 of one", f"{s}.crowd_p99_ms", f"{s}.p50_ms", 25, 12),
        Target("batch, 100 calls a request", f"{s}.batch_rate", pool, 1.5, 5, True),
        Target("durable 202s/s, 32 clients", f"{s}.promise_rate", pool, 0.25, 0.5, True),
        Target("script, p50 over fork, wait", f"{s}.script.p50_ms", f"fork_{s}.p50_ms", 4, 2.5),
        Target("first call, runtime preloaded", f"{s}.preloaded_ms", start, 0.1, 0.03),
        Target("first call, nothing preloaded", f"{s}.first_ms", start, 1.35, 1.15),
        Target("fast beside slow, p99", f"{s}.beside_p99_ms", f"{s}.alone_p99_ms", 2, 1.2),
        Target("1 MB there and back, p50", f"{s}.mb_p50_ms", "bare.mb_p50_ms", 3, 2),
        Target("idle control plane, MB", f"{s}.control_mb", None, 120, 80),
        Target("one more idle miniworker, MB", f"{s}.miniworker_mb", None, 5, 2),
    ]  # fmt: skip


def newest(kind: str = "bench", folder: Path = RESULTS) -> Path:
    """Return the file of the last run of a kind."""
    files = sorted(folder.glob(f"{kind}-*.json"))
    if not files:
        raise SystemExit(f"there are no results of {kind} in {folder}: run make {kind} first")
    return files[-1]


def read(file: Path) -> dict[str, Any]:
    """Return the results in a file."""
    found = json.loads(file.read_text())
    if not isinstance(found, dict) or not isinstance(found.get("rounds"), list):
        raise SystemExit(f"{file} holds no results of a benchmark: it has no list of rounds")
    return found


def judge(rounds: Sequence[Round], target: Target) -> tuple[str, bool | None]:
    """Return a line about a target, and whether it is met; None: its rows were not run."""
    found = target.measured(rounds)
    if found is None:
        missing = ", ".join(target.missing(rounds)) or "not in one round"
        return f"{target.what:36} not run ({missing})", None
    is_met = target.is_met(found.median)
    sign = ">=" if target.at_least else "<="
    said = "ok" if is_met else "MISSED"
    if found.holds(target.must):
        said += ", within the noise"
    spread = f"[{found.least:.3g} to {found.most:.3g}]"
    allowed = f"must {sign} {target.must:g}, want {target.want:g}"
    return f"{target.what:36} {found.median:8.3g} {spread:18} {allowed:28} {said}", is_met


def verdicts(rounds: Sequence[Round]) -> tuple[list[str], int, int]:
    """Return the lines of all targets, how many are missed and how many were not run."""
    lines, missed, absent = [], 0, 0
    for sandbox in SANDBOXES:
        lines.append(f"\n{sandbox} sandboxes")
        for target in targets(sandbox):
            line, is_met = judge(rounds, target)
            lines.append(f"  {line}")
            missed += is_met is False
            absent += is_met is None
    return lines, missed, absent


def main(arguments: Sequence[str]) -> int:
    """Print the verdicts; return the exit status."""
    file = Path(arguments[0]) if arguments else newest()
    results = read(file)
    lines, missed, absent = verdicts(results["rounds"])
    print(f"{file}: {len(results['rounds'])} rounds")
    print("\n".join(lines))
    for row, why in sorted(results.get("absent", {}).items()):
        print(f"not run: {row}: {why}")
    print(f"\n{missed} missed, {absent} not run")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
