"""What the demo makes of records, and how it shows commands: no engine needed."""

from __future__ import annotations

import io
from typing import Any

from deploy.demo.page import Page, folded
from deploy.demo.tally import Tally, had_begun, names


def record(number: int, status: str, *nodes: str, begun: bool = True) -> dict[str, Any]:
    """Return a call with an attempt on each of the nodes."""
    attempts = [{"node": node, "startedAt": "now" if begun else None} for node in nodes]
    return {
        "callNum": number, "funcName": "f", "status": status, "attempts": attempts,
        "node": nodes[-1] if nodes else None, "result": '{"darts": 100, "hits": 78}',
    }  # fmt: skip


def test_a_call_is_moved_if_its_last_attempt_was_elsewhere() -> None:
    stayed = record(1, "DONE", "a")
    moved = record(2, "DONE", "a", "b")
    returned = record(3, "DONE", "a", "b", "a")
    waits = record(4, "PENDING", "a")
    tally = Tally([stayed, moved, returned, waits])
    assert tally.moved_from("a") == [moved]
    assert tally.ended == 3
    assert tally.ran_on("a") == {"f": 2}
    assert tally.ran_on("b") == {"f": 1}


def test_what_runs_where_and_what_had_begun() -> None:
    runs, waits = record(1, "RUNNING", "a"), record(2, "PENDING", "a", begun=False)
    tally = Tally([runs, waits, record(3, "LOST", "a"), record(4, "PENDING")])
    assert tally.running_on("a") == {"f"}
    assert tally.running_on("b") == set()
    assert had_begun(runs, "a")
    assert not had_begun(waits, "a")
    assert not had_begun(runs, "b")
    assert tally.statuses == {"RUNNING": 1, "PENDING": 2, "LOST": 1}
    assert tally.pi() == (0, 0)


def test_names_end_where_the_line_does() -> None:
    calls = [record(number, "DONE", "a") for number in (9, 10, 11)]
    assert names(calls, 20) == "c9 c10 c11"
    assert names(calls, 8) == "c9 c10 …"


def test_a_long_command_is_folded_where_a_shell_takes_it_for_one() -> None:
    command = "curl -F module=@a.tar.gz -F 'entry=a b' localhost/f"
    assert folded(command, 200) == [command]
    lines = folded(command, 30)
    assert lines == ["curl -F module=@a.tar.gz \\", "  -F 'entry=a b' localhost/f"]


def test_a_pipe_gets_neither_colour_nor_motion_and_may_go_away() -> None:
    stream = io.StringIO()
    page = Page(stream)
    with page.step("Images"):
        page.live("under way")
        page.bars({"worker-1": (10, "f 10"), "worker-2": (5, "f 5")})
    said = stream.getvalue()
    assert "\x1b" not in said
    assert "under way" not in said
    assert f"worker-2 {'█' * 10:<20}    5  f 5\n" in said
    assert page.doing == "Images"

    class Gone(io.StringIO):
        def write(self, _text: str, /) -> int:
            raise BrokenPipeError

    page = Page(Gone())
    page.say("to nobody")
    page.say("still")
