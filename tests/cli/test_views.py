"""What people see: tables, the screen of top, explanations, words; at every width."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.explain import explain
from cli.frame import Snapshot, frame
from cli.reasons import advice
from cli.tables import Cell, Column, Line, lines
from cli.words import ago, breadth, clip, size, span

NOW = 1_000_000.0
AT = "1970-01-12T13:46:30.000Z"  # ten seconds before
CALL: dict[str, Any] = {
    "callNum": 7, "funcName": "dice", "revision": 2, "status": "DONE", "params": {"a": "x"},
    "result": "[1]", "reason": None, "start": "cold", "node": "node1", "duration": 0.012,
    "acceptedAt": "1970-01-12T13:46:30.000Z", "dispatchedAt": "1970-01-12T13:46:30.005Z",
    "startedAt": "1970-01-12T13:46:30.400Z", "finishedAt": "1970-01-12T13:46:30.412Z",
    "attempts": [{"attempt": 1, "node": "node1", "status": "DONE", "reason": None}],
}  # fmt: skip


def text(line: Line) -> str:
    return "".join(piece for piece, _ in line)


@given(
    rows=st.lists(st.tuples(st.text(max_size=40), st.text(max_size=9), st.text(max_size=300))),
    width=st.integers(40, 220),
)
def test_a_table_is_never_wider_than_it_may_be(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    columns = (
        Column("A", flexible=True),
        Column("B", right=True),
        Column("C", 1, flexible=True),
    )
    cells = [[Cell(one) for one in row] for row in rows]
    drawn = lines(columns, cells, width)
    assert len(drawn) == len(rows) + 1
    for line in drawn:
        assert breadth(text(line)) <= width
        assert text(line).isprintable()


def test_columns_go_by_their_rank_and_texts_are_cut_last() -> None:
    columns = (Column("KEEP"), Column("LONG", 1, flexible=True), Column("FIRST", 2))
    row = [Cell("x" * 20), Cell("y" * 50), Cell("z" * 20)]
    assert text(lines(columns, [row], 100)[0]).split() == ["KEEP", "LONG", "FIRST"]
    narrow = lines(columns, [row], 40)
    assert text(narrow[0]).split() == ["KEEP", "LONG"]
    assert text(narrow[1]) == "x" * 20 + "  " + "y" * 17 + "…"
    assert text(lines(columns, [row], 10)[0]).split() == ["KEEP"]


@given(st.text(max_size=50), st.integers(0, 60))
def test_clipped_text_fits_and_moves_no_cursor(given_text: str, width: int) -> None:
    clipped = clip(given_text, width)
    assert breadth(clipped) <= width
    assert clipped.isprintable()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (span(0.0004), "0.4 ms"), (span(0.012), "12 ms"), (span(1.5), "1.50 s"),
        (span(75), "1 min 15 s"), (span(None), "-"), (size(812), "812 B"),
        (size(1434), "1.4 KiB"), (size(64 << 20), "64.0 MiB"), (ago(AT, NOW), "10 s ago"),
        (ago(AT, NOW + 7200), "2 h ago"), (ago(None, NOW), "-"), (ago(AT, 0), "now"),
    ],
)  # fmt: skip
def test_numbers_and_times_in_words(said: str, expected: str) -> None:
    assert said == expected


def snapshot(count: int = 2, calls: int = 30, **changed: Any) -> Snapshot:
    worker = {"state": "up", "running": 3, "slots": 4, "warm": {"a": 2}, "lastSeen": AT,
              "sandbox": "process"}  # fmt: skip
    queue = {"functionName": "dice", "revision": 1, "queued": 5, "running": 3}
    return Snapshot(**{
        "url": "http://h:3000", "at": NOW, "queues": [queue],
        "workers": [{**worker, "name": f"node{n}"} for n in range(count)],
        "running": [{**CALL, "callNum": n, "status": "RUNNING"} for n in range(calls)],
        "ended": [{**CALL, "callNum": n} for n in range(calls)], "rate": 4.2, **changed,
    })  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 149, 150, 200])
@pytest.mark.parametrize("height", [3, 10, 24, 50])
@pytest.mark.parametrize(("workers", "calls"), [(0, 0), (2, 3), (40, 100)])
def test_the_screen_of_top_fits_its_terminal(
    width: int, height: int, workers: int, calls: int
) -> None:
    drawn = frame(snapshot(workers, calls), NOW, width, height)
    assert len(drawn) == height
    assert all(breadth(text(line)) <= width for line in drawn)
    assert text(drawn[-1]) == "q quits"


def test_top_shows_silence_and_what_a_node_withholds_and_why() -> None:
    (node,) = snapshot(1, 0).workers
    said = {"silent": True, "free": 1, "withheld": "no sandbox could be made here once"}
    for width, shown in ((120, ("silent", said["withheld"])), (40, ("silent",))):
        screen = "\n".join(
            map(text, frame(snapshot(0, 0, workers=[{**node, **said}]), NOW, width))
        )
        assert all(str(word) in screen for word in shown)
    gone = {**node, **said, "state": "gone"}
    screen = "\n".join(map(text, frame(snapshot(0, 0, workers=[gone]), NOW, 120)))
    assert "silent" not in screen


@pytest.mark.parametrize("width", [80, 200])
def test_top_shows_workers_queues_running_and_ended(width: int) -> None:
    screen = "\n".join(map(text, frame(snapshot(), NOW, width, 40)))
    for word in ("workers 2", "running 6/8", "queued 5", "ended 4.2/s", "node1", "3/4",
                 "dice", "WORKERS (2)", "QUEUES (1)", "RUNNING (30)", "ENDED (30)",
                 "more"):  # fmt: skip
        assert word in screen
    assert "more" not in "\n".join(map(text, frame(snapshot(), NOW, width)))


def test_top_says_that_skep_is_away_and_since_when() -> None:
    drawn = frame(snapshot(trouble="no answer"), NOW + 12, 80, 24)
    assert text(drawn[1]) == "AWAY, trying again; what follows is 12 s old: no answer"


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("bars", [True, False])
def test_an_explanation_fits_and_tells_all(width: int, bars: bool) -> None:
    told = explain(CALL, NOW, width=width, bars=bars)
    assert all(breadth(line) <= width for line in told.splitlines())
    for word in ("ended DONE after 412 ms", "Cold: no sandbox", "It went to node1",
                 "5.0 ms", "395 ms", "12 ms", "It met no limit"):  # fmt: skip
        assert word in told
    assert ("█" in told) == bars


def test_an_explanation_takes_ways_words_stages_and_limits_from_the_record() -> None:
    attempt = {**CALL["attempts"][0], "way": "ahead", "why": "it had the place"}
    stages = {"queued": 5, "install": 380, "new-stage": 1, "run": 12}
    told = explain(
        {**CALL, "attempts": [attempt], "stages": stages, "timeout": 5.0, "memory": 256,
         "maxWait": 600.0, "peakMemory": 34 << 20, "logBytesOmitted": 2048},
        NOW,
    )  # fmt: skip
    for word in ("Warm: it was handed ahead", "it had the place.", "dependencies installed",
                 "380 ms", "new-stage", "timeout 12 ms of 5 s", "maxWait 400 ms of 600 s",
                 "34.0 MiB of 256 MiB", "2.0 KiB of the middle"):  # fmt: skip
        assert word in " ".join(told.split())
    assert told.index("waited for a place") < told.index("dependencies") < told.index("ran")


CODES = [
    "raised",
    "exit_code",
    "signal",
    "result_too_large",
    "image_unavailable",
    "command_not_found",
    "install_failed",
    "no_sandbox",
    "no_space",
    "entry_not_found",
    "protocol_violation",
    "never_started",
    "timeout",
    "oom",
    "node_silent",
    "node_lost",
    "sandbox_lost",
    "interrupted",
    "cancelled",
    "unconfirmed",
]


@pytest.mark.parametrize("code", CODES)
def test_every_reason_is_explained(code: str) -> None:
    reason = {"code": code, "message": "it was so"}
    told = explain({**CALL, "status": "FAILED", "reason": reason}, NOW)
    assert f"it was so [{code}]" in told
    assert " ".join(advice(code, "dice").split()) in " ".join(told.split())
    assert advice(code, "dice")


def test_a_call_that_has_not_begun_is_explained_too() -> None:
    bare = {"callNum": 1, "funcName": "f", "status": "PENDING", "acceptedAt": AT}
    assert "accepted 10 s ago, not begun yet" in explain(bare, NOW)
    lost = {**CALL, "status": "LOST", "start": None, "attempts": [], "node": None,
            "duration": None}  # fmt: skip
    assert "It never began" in explain(lost, NOW)
    twice = [CALL["attempts"][0], {**CALL["attempts"][0], "attempt": 2, "node": "node2"}]
    assert "It took 2 attempts" in explain({**CALL, "attempts": twice}, NOW)
