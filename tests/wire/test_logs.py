"""The shape of log lines: one event one line, whoever wrote what it quotes."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.about import about
from wire.logs import MAX_CHARS, JsonLines, Lines, TextLines, grave

ROOT = Path(__file__).parents[2]
WHO = {"process": "worker", "node": "n1"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
CALL = about(call=17, attempt=1, function="dice", traceparent=PARENT)
TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    worker\.node n1 call=17 attempt=1 "
    r"function=dice: (.*)"
)


def line(shape: Lines, message: str, *args: object, **more: Any) -> str:
    record = logging.makeLogRecord(
        {"name": "worker.node", "levelname": "INFO", "msg": message, "args": args, **more}
    )
    return shape.format(record)


def test_text_is_for_people_and_begins_with_what_one_looks_for() -> None:
    match = TEXT.fullmatch(line(TextLines(**WHO), "ended %s", "FAILED", **CALL))
    assert match
    assert match[1] == "ended FAILED"


def test_the_logger_of_another_room_stands_behind_the_process() -> None:
    assert " worker/wire.sockets n1: hm" in line(TextLines(**WHO), "hm", name="wire.sockets")
    api = TextLines(process="api", node="api")
    assert "INFO    api.hub: hm" in line(api, "hm", name="api.hub")
    mini = TextLines(process="miniworker", node="n1", miniworker="m3")
    assert " miniworker.loop n1/m3: hm" in line(mini, "hm", name="miniworker.loop")


def test_json_says_the_same_and_call_is_on_every_line() -> None:
    said = json.loads(line(JsonLines(**WHO), "ended %s", "FAILED", **CALL))
    assert said.pop("time").endswith("Z")
    expected = {"level": "INFO", "logger": "worker.node", **WHO, "call": 17, "attempt": 1}
    expected |= {"function": "dice", "trace_id": TRACE, "message": "ended FAILED"}
    assert said == expected
    assert json.loads(line(JsonLines(**WHO), "hm"))["call"] is None


@given(st.text())
def test_nobody_can_forge_a_line_or_play_with_a_terminal(text: str) -> None:
    for shape in (TextLines(**WHO), JsonLines(**WHO)):
        written = line(shape, "it said %s", text, **CALL)
        assert len(written.splitlines()) == 1
        assert not set(written) & {chr(n) for n in (*range(32), *range(0x7F, 0xA0))}
        assert not set(written) & set("\u2028\u2029\u202e\u2066")
    said = json.loads(line(JsonLines(**WHO), "it said %s", text))
    assert said["message"] == f"it said {text}"[: len(said["message"])]


def test_what_is_quoted_is_cut() -> None:
    written = line(TextLines(**WHO), "%s", "x" * 1_000_000)
    assert len(written) < MAX_CHARS + 200
    assert written.endswith("(996000 characters left out)")


def raised(text: str) -> Any:
    try:
        int(text + "no number")
    except ValueError:
        return sys.exc_info()


@given(st.text())
def test_no_line_of_a_traceback_can_pass_for_a_line_of_the_log(text: str) -> None:
    forged = f"\n2026-01-01T00:00:00.000Z WARNING api: {text}"
    error = raised(forged)
    first, *below = line(TextLines(**WHO), "failed", exc_info=error).split("\n")
    assert first.endswith(": failed")
    assert below
    assert all(part.startswith("    | ") for part in below)
    assert not any(grave(part) for part in below)
    said = json.loads(line(JsonLines(**WHO), "failed", exc_info=error))
    assert "ValueError" in said["error"]


@pytest.mark.parametrize("shape", [TextLines(**WHO), JsonLines(**WHO)])
def test_a_person_is_shown_warnings_and_worse(shape: Lines) -> None:
    assert grave(line(shape, "hm", **CALL)) is None
    shown = grave(line(shape, "hm \x1b[2J", levelname="WARNING", **CALL))
    assert shown is not None
    assert re.fullmatch(r"WARNING worker\.node (n1 )?call=17.*: hm \\x1b\[2J", shown)


@pytest.mark.parametrize("text", ["{", '{"level": 3}', "[]", "{}", "WARNING", ""])
def test_what_is_no_line_of_a_log_is_not_shown(text: str) -> None:
    assert grave(text) is None


CHILD = """
import asyncio, logging
from wire.process import Started, run

async def main(stop):
    logging.getLogger("dbnode.main").info("one\\ntwo")

run(main, Started(process="dbnode", node="dbnode", log_format=%r))
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_process_writes_them_to_stderr(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD % form],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    (only,) = done.stderr.splitlines()
    if form == "json":
        assert json.loads(only)["message"] == "one\ntwo"
    else:
        assert only.endswith("INFO    dbnode.main: one\\ntwo")


STRAYS = """
import asyncio, threading, warnings
from wire.process import Started, run

class Fails:
    def __del__(self):
        raise ValueError("in __del__")

def fails():
    raise ValueError("in a thread")

async def forgotten():
    raise ValueError("in a task")

async def main(stop):
    warnings.warn("of a library\\n{}")
    Fails()
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    raise ValueError("at the end")

run(main, Started(process="dbnode", node="dbnode", log_format=%r))
"""
ENDS = ("of a library", "in __del__", "in a thread", "in a task", "at the end")


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_python_itself_has_to_say_is_a_line_too(form: str) -> None:
    """Warnings of libraries, and errors that nobody caught, wherever they come from."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", STRAYS % form],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    if form == "text":
        assert all(re.match(r"\d{4}-\S+Z [A-Z]+ +|    \| ", one) for one in lines), done.stderr
        return
    said = [json.loads(one) for one in lines]
    assert all(one["node"] == "dbnode" and one["call"] is None for one in said)
    told = [one["message"] + one.get("error", "") for one in said]
    for end, one in zip(ENDS, told, strict=True):
        assert end in one
