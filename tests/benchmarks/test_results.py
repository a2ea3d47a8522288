"""Rounds are kept as they end, and pieces of one run add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import SHARES, Results, Sheet, table

ABOUT = {"processors": 2, "python": "3.11", "commit": "abc", "calls": 100}


def sheet(**rows: float) -> Sheet:
    made = Sheet()
    for row, value in rows.items():
        made.put(row, value)
    return made


def test_latencies_are_kept_as_quantiles_in_ms() -> None:
    made = Sheet()
    made.quantiles("x", [number / 1000 for number in range(1, 101)], "crowd_")
    assert made.rows == {"x.crowd_p50_ms": 50, "x.crowd_p99_ms": 99}
    assert len(made.shapes["x.crowd_"]) == len(SHARES)
    assert made.shapes["x.crowd_"] == sorted(made.shapes["x.crowd_"])


def test_a_later_piece_goes_on_in_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "bench-1.json"
    first = Results("bench", ABOUT, file)
    first.add(sheet(a=1))
    # The load of the machine may be another one: that is what rounds are for.
    second = Results("bench", {**ABOUT, "load_before": [9, 9, 9]}, file)
    second.add(sheet(a=2))
    assert json.loads(file.read_text())["rounds"] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("key", ["commit", "python", "calls"])
def test_what_was_measured_otherwise_is_not_mixed_in(tmp_path: Path, key: str) -> None:
    file = tmp_path / "bench-1.json"
    Results("bench", ABOUT, file).add(sheet(a=1))
    with pytest.raises(SystemExit, match=key):
        Results("bench", {**ABOUT, key: "other"}, file)
    assert json.loads(file.read_text())["rounds"] == [{"a": 1}]


def test_a_row_that_some_round_has_is_not_absent(tmp_path: Path) -> None:
    file = tmp_path / "bench-1.json"
    results = Results("bench", ABOUT, file)
    failed = sheet(a=1)
    failed.absent |= {"parsl": "it failed", "celery": "no redis"}
    results.add(failed)
    assert json.loads(file.read_text())["absent"] == {
        "parsl": "it failed",
        "celery": "no redis",
    }
    results.add(sheet(**{"parsl.rate": 1}))
    assert json.loads(file.read_text())["absent"] == {"celery": "no redis"}


def test_a_table_shows_middle_and_spread() -> None:
    lines = table([{"a": 1}, {"a": 3, "b": 5}, {"a": 2}]).splitlines()[1:]
    assert [line.split(maxsplit=2) for line in lines] == [
        ["a", "2.00", "[1.00 to 3.00]"],
        ["b", "5.00", "one round"],
    ]
