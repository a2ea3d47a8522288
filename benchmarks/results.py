"""What was measured, kept in a file that later pieces of the same run add to."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.gate import RESULTS, Spread, newest, quantile

#: Shares at which a distribution is kept: enough to draw it.
SHARES: Final = (*(at / 100 for at in range(1, 100)), 0.995, 0.999)
#: What has to be the same before one run goes on in the file of another.
SAME: Final = ("processors", "model", "system", "python", "engine", "commit", "calls")


def options(about: str | None, *, rounds: int, calls: int) -> argparse.ArgumentParser:
    """Return the parser of what every measurement may be told; ``about`` is its docstring."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--calls", type=int, default=calls)
    parser.add_argument("--into", help="a file of results that goes on, or 'newest'")
    return parser


def begun(kind: str, given: argparse.Namespace) -> Results:
    """Say what is measured on, and return the file for it.

    SIGTERM ends this process from now on as Ctrl-C does: what it started is stopped.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    about = {**machine.described(), "calls": given.calls}
    print(json.dumps(about, indent=2))
    if given.into == "newest":
        return Results(kind, about, newest(kind))
    return Results(kind, about, Path(given.into) if given.into else None)


class Sheet:
    """What one round measured: rows of numbers, and the shapes of some latencies."""

    def __init__(self) -> None:
        self.rows: dict[str, float] = {}
        #: name -> ms at each of ``SHARES``.
        self.shapes: dict[str, list[float]] = {}
        #: row -> why it was not run.
        self.absent: dict[str, str] = {}

    @classmethod
    def begun(cls) -> Sheet:
        """Return the sheet of a round that begins now, with the load that it meets."""
        made = cls()
        made.put("machine.load", os.getloadavg()[0])
        return made

    def put(self, row: str, value: float) -> None:
        """Keep the value of a row."""
        self.rows[row] = round(value, 4)

    def quantiles(self, name: str, took_s: Sequence[float], within: str = "") -> None:
        """Keep p50 and p99 of latencies in seconds, as ms, and their shape."""
        took = sorted(1000 * one for one in took_s)
        self.put(f"{name}.{within}p50_ms", quantile(took, 0.5))
        self.put(f"{name}.{within}p99_ms", quantile(took, 0.99))
        self.shapes[f"{name}.{within or 'one_'}"] = [
            round(quantile(took, share), 4) for share in SHARES
        ]


class Results:
    """A file of rounds, written anew after each of them: an interrupted run loses one."""

    def __init__(self, kind: str, about: dict[str, Any], file: Path | None = None) -> None:
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.file = file or RESULTS / f"{kind}-{at}.json"
        self._about = about
        self._rounds: list[dict[str, float]] = []
        self._shapes: list[dict[str, list[float]]] = []
        self._absent: dict[str, str] = {}
        if self.file.exists():
            self._go_on(json.loads(self.file.read_text()))

    def _go_on(self, before: dict[str, Any]) -> None:
        other = [key for key in SAME if before["about"].get(key) != self._about.get(key)]
        if other:
            raise SystemExit(
                f"{self.file} was measured under other conditions ({', '.join(other)}): "
                "rounds of both must not be mixed; leave out --into"
            )
        self._rounds = before["rounds"]
        self._shapes = before.get("shapes", [])
        self._absent = before.get("absent", {})

    @property
    def rounds(self) -> list[dict[str, float]]:
        """Return the rows of all rounds."""
        return self._rounds

    def add(self, sheet: Sheet) -> None:
        """Keep a round."""
        self._rounds.append(sheet.rows)
        self._shapes.append(sheet.shapes)
        ran = {row for one in self._rounds for row in one}
        self._absent = {
            row: why
            for row, why in {**self._absent, **sheet.absent}.items()
            if not any(name == row or name.startswith(f"{row}.") for name in ran)
        }
        self._write()

    def _write(self) -> None:
        self.file.parent.mkdir(exist_ok=True)
        found = {
            "about": self._about,
            "rounds": self._rounds,
            "absent": self._absent,
            "shares": SHARES,
            "shapes": self._shapes,
        }
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(json.dumps(found, indent=1) + "\n")
        unfinished.rename(self.file)


def table(rounds: Sequence[dict[str, float]]) -> str:
    """Return all rows as text: median and spread over the rounds."""
    lines = [f"{'row':38} {'median':>10}   spread"]
    for name in sorted({row for one in rounds for row in one}):
        found = Spread.of([one[name] for one in rounds if name in one])
        spread = f"[{found.least:.2f} to {found.most:.2f}]" if found.count > 1 else "one round"
        lines.append(f"{name:38} {found.median:10.2f}   {spread}")
    return "\n".join(lines)
