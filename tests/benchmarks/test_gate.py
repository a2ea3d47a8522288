"""The gate judges what was measured, by itself and without anything installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.gate import Spread, Target

ROOT = Path(__file__).parents[2]
AT_MOST = Target("a time", "a_ms", "b_ms", must=2, want=1)
AT_LEAST = Target("a rate", "a", "b", must=0.5, want=1, at_least=True)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert gate.quantile(range(1, 101), share) == expected


def test_the_quantile_of_one_value_is_that_value() -> None:
    assert [gate.quantile([7.0], share) for share in (0, 0.5, 0.99, 1)] == [7.0] * 4


def test_there_is_no_quantile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        gate.quantile([], 0.5)


def test_a_spread_is_the_middle_and_both_ends() -> None:
    assert Spread.of([3, 1, 2]) == Spread(median=2, least=1, most=3, count=3)


@pytest.mark.parametrize(
    ("ours", "theirs", "overlap"),
    [
        ([1, 2], [3, 4], False),
        ([3, 4], [1, 2], False),
        ([1, 3], [3, 4], True),
        ([1, 9], [3, 4], True),
        ([1], [9, 10], True),
        ([1, 2], [9], True),
    ],
)
def test_no_difference_inside_the_noise_is_real(
    ours: list[float], theirs: list[float], overlap: bool
) -> None:
    """One round alone has no noise that is known: it tells nothing apart."""
    assert Spread.of(ours).overlaps(Spread.of(theirs)) is overlap


def test_a_ratio_is_taken_within_each_round() -> None:
    """The second round met a machine ten times as slow, which changes nothing."""
    rounds = [{"a_ms": 1, "b_ms": 1}, {"a_ms": 10, "b_ms": 10}, {"a_ms": 3, "b_ms": 2}]
    assert AT_MOST.measured(rounds) == Spread(1.0, 1.0, 1.5, 3)


def test_rounds_of_a_piece_without_a_row_are_left_out() -> None:
    rounds = [{"a_ms": 1}, {"b_ms": 1}, {"a_ms": 3, "b_ms": 2}]
    assert AT_MOST.measured(rounds) == Spread(1.5, 1.5, 1.5, 1)


@pytest.mark.parametrize(
    ("target", "row", "is_met", "said"),
    [
        (AT_MOST, {"a_ms": 2, "b_ms": 1}, True, "ok"),
        (AT_MOST, {"a_ms": 2.1, "b_ms": 1}, False, "MISSED"),
        (AT_LEAST, {"a": 1, "b": 2}, True, "ok"),
        (AT_LEAST, {"a": 0.9, "b": 2}, False, "MISSED"),
        (AT_MOST, {"a_ms": 1}, None, "not run (b_ms)"),
        (AT_MOST, {}, None, "not run (a_ms, b_ms)"),
        (Target("memory", "mb", None, 120, 80), {"mb": 121}, False, "MISSED"),
    ],
)
def test_a_target_is_met_missed_or_was_not_run(
    target: Target, row: dict[str, float], is_met: bool | None, said: str
) -> None:
    line, found = gate.judge([row], target)
    assert found is is_met
    assert line.endswith(said)


def test_what_some_rounds_meet_and_some_miss_is_said_to_be_noise() -> None:
    rounds = [{"a_ms": 1.5, "b_ms": 1}, {"a_ms": 3.0, "b_ms": 1}, {"a_ms": 2.5, "b_ms": 1}]
    line, is_met = gate.judge(rounds, AT_MOST)
    assert is_met is False
    assert line.endswith("MISSED, within the noise")


def test_every_target_stands_for_both_kinds_of_sandboxes() -> None:
    names = [[target.what for target in gate.targets(kind)] for kind in gate.SANDBOXES]
    assert names[0] == names[1]
    assert len(set(names[0])) == 13


def perfect() -> dict[str, float]:
    """Return a round that meets every target by far."""
    row: dict[str, float] = {}
    for kind in gate.SANDBOXES:
        for target in gate.targets(kind):
            row[target.row] = 1000.0 if target.at_least else 1.0
            if target.over is not None:
                row.setdefault(target.over, 1.0)
    return row | {"container.start_ms": 1000.0}


def run(file: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a user would, on a Python that has nothing but its own library."""
    command = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "gate.py"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def written(folder: Path, *rounds: dict[str, float]) -> Path:
    file = folder / "bench-1.json"
    file.write_text(json.dumps({"about": {}, "rounds": rounds, "absent": {"parsl": "offline"}}))
    return file


def test_it_exits_with_0_if_all_is_met(tmp_path: Path) -> None:
    done = run(written(tmp_path, perfect()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 missed, 0 not run" in done.stdout
    assert "not run: parsl: offline" in done.stdout


def test_it_exits_with_1_if_one_is_missed(tmp_path: Path) -> None:
    done = run(written(tmp_path, perfect() | {"docker.control_mb": 121.0}))
    assert done.returncode == 1
    assert done.stdout.count("MISSED") == 1
    assert "1 missed, 0 not run" in done.stdout


def test_rows_that_were_not_run_are_named_and_are_no_misses(tmp_path: Path) -> None:
    row = {name: value for name, value in perfect().items() if not name.startswith("docker.")}
    done = run(written(tmp_path, row))
    assert done.returncode == 0
    assert "not run (docker.batch_rate)" in done.stdout
    assert "0 missed, 13 not run" in done.stdout


def test_results_of_another_form_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "bench-1.json"
    file.write_text('{"rows": {}}')
    done = run(file)
    assert done.returncode == 1
    assert "has no list of rounds" in done.stderr


def test_the_newest_results_are_taken(tmp_path: Path) -> None:
    for name in ("bench-20260101T000000.json", "bench-20260102T000000.json", "growth-3.json"):
        (tmp_path / name).touch()
    assert gate.newest("bench", tmp_path).name == "bench-20260102T000000.json"


def test_without_results_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run make bench first"):
        gate.newest("bench", tmp_path)
