"""The page says what was measured, and calls nothing a difference that is none."""

from __future__ import annotations

import pytest

from benchmarks import growth, report
from benchmarks.gate import Target

PAGE = """before
<!-- one: made by X -->
old
<!-- end of one -->
between
<!-- two: made by Y -->
<!-- end of two -->
"""
ROUNDS = [
    {"docker.p50_ms": 1.0, "celery.p50_ms": 3.0, "docker.rate": 900, "celery.rate": 700},
    {"docker.p50_ms": 1.2, "celery.p50_ms": 2.4, "docker.rate": 1100, "celery.rate": 1000},
]


def test_only_the_section_is_written_anew() -> None:
    page = report.replaced(PAGE, "one", r"new \1 table")
    assert page == PAGE.replace("\nold\n", "\nnew \\1 table\n")
    assert report.replaced(page, "one", "old") == PAGE


def test_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SystemExit, match="0 sections 'three'"):
        report.replaced(PAGE, "three", "text")


def test_the_page_has_a_place_for_every_section() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    for sections in report.SECTIONS.values():
        for name in sections:
            assert "text" in report.replaced(page, name, "text")


def test_a_win_beyond_the_noise_is_called_one() -> None:
    said = report.compared(ROUNDS, "celery", "p50_ms", more_is_better=False)
    assert said == "skep wins, x 2.45"


def test_a_loss_is_shown_as_plainly() -> None:
    swapped = [
        {"docker.p50_ms": one["celery.p50_ms"], "celery.p50_ms": one["docker.p50_ms"]}
        for one in ROUNDS
    ]
    said = report.compared(swapped, "celery", "p50_ms", more_is_better=False)
    assert said == "skep loses, x 2.45"


def test_spreads_that_overlap_are_no_difference() -> None:
    said = report.compared(ROUNDS, "celery", "rate", more_is_better=True)
    assert said == "no difference beyond the noise"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "not run"),
        ([3.0, 3.1], "3.05 [3 to 3.1]: **missed**"),
        ([1.5, 1.7], "1.6 [1.5 to 1.7]: met"),
        ([0.5, 0.7], "0.6 [0.5 to 0.7]: as wanted"),
        ([1.5, 3.0], "2.25 [1.5 to 3]: within the noise of it"),
    ],
)
def test_verdicts_of_targets(values: list[float], said: str) -> None:
    target = Target("a time", "a_ms", None, must=2, want=1)
    assert report.verdict(target, [{"a_ms": value} for value in values]) == said


def test_all_tables_bear_results_in_which_most_was_not_run() -> None:
    results = {
        "about": {
            "processors": 2, "model": "A processor", "memory_gib": 8, "system": "Linux 6",
            "python": "3.11", "engine": "none", "commit": "abc", "calls": 5, "load_before": [0],
        },
        "rounds": ROUNDS,
        "absent": {"parsl": "offline"},
    }  # fmt: skip
    written = [
        write(results) for sections in report.SECTIONS.values() for write in sections.values()
    ]
    assert any("not run: offline" in text for text in written)
    assert any("1.1 [1 to 1.2]" in text for text in written)


def test_growth_is_the_ratio_of_each_round() -> None:
    rounds = [
        {"workers.1.p50_ms": 1.0, "workers.200.p50_ms": 1.1},
        {"workers.1.p50_ms": 2.0, "workers.200.p50_ms": 2.4},
        {"functions.1.p50_ms": 1.0},
    ]
    found = growth.ratio(rounds, "workers", "p50_ms")
    assert found is not None
    assert (found.least, found.most) == (1.1, 1.2)
    assert growth.ratio(rounds, "functions", "p50_ms") is None
    assert any("not run" in line for line in growth.verdicts(rounds))


@pytest.mark.parametrize(("load", "is_said"), [(0.5, False), (16.0, True)])
def test_a_busy_machine_is_said_before_its_figures(load: float, is_said: bool) -> None:
    about = {
        "processors": 2, "model": "A processor", "memory_gib": 8, "system": "Linux 6",
        "python": "3.11", "engine": "none", "commit": "abc", "calls": 5, "load_before": [0],
    }  # fmt: skip
    said = report.machine({"about": about, "rounds": [{"machine.load": load}]})
    assert ("was busy" in said) is is_said
