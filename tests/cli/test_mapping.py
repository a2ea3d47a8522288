"""``skep invoke --map`` against a real installation: results in order, and going on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.session import result, skep
from tests.conftest import eventually
from tests.e2e.harness import Up, environment

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def nothing_outlives(hive: Up) -> None:
    """Sandboxes of the installation come and go during a test; its end proves that all went."""


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("functions")
def test_a_result_for_each_line_in_order(hive: Up, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"n": 0}\n\n["é"]\n"x"\n')
    told = lines(result(hive, "invoke", "echo", "--map", str(file)))
    assert [(one["index"], one["status"]) for one in told] == [
        (0, "DONE"), (1, "DONE"), (2, "DONE"),
    ]  # fmt: skip
    assert [one["result"] for one in told] == [{"n": 0}, ["é"], "x"]
    assert len({one["callNum"] for one in told}) == 3
    assert lines(result(hive, "invoke", "echo", "--map", "-", given="1\n"))[0]["result"] == 1


@pytest.mark.usefixtures("functions")
def test_what_fails_is_told_at_its_place(hive: Up, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"roll": "1d1"}\n{"roll": "nonsense"}\n{"roll": "2d1"}\n')
    done = skep(hive, "invoke", "dice", "--map", str(file))
    assert done.returncode == 1
    good, bad, last = lines(done.stdout)
    assert (good["result"], bad["status"], last["result"]) == ([1], "FAILED", [1, 1])
    assert bad["reason"]["code"]
    assert f"1 of 3 did not end DONE\nhint:  skep call explain {bad['callNum']}" in done.stderr


@pytest.mark.usefixtures("functions")
def test_an_interrupted_map_goes_on_and_calls_nothing_twice(hive: Up, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(f'{{"n": {n}}}\n' for n in range(60)))
    before = int(result(hive, "invoke", "echo", "--async"))
    words = ["invoke", "echo", "--map", str(file), "--out", str(out), "--concurrency", "4"]
    command = [sys.executable, "-P", "-m", "cli", *words]
    part = tmp_path / "out.jsonl.part"
    variables = {**environment(), "SKEP_URL": hive.url}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as first:
        eventually(lambda: part.exists() and len(part.read_text().splitlines()) > 8)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "the same command goes on from there" in said
    assert not out.exists()
    with part.open("a") as file_:
        file_.write('{"index": 99, "ca')
    other = skep(hive, *words, "--timeout", "9")
    assert (other.returncode, "other inputs" in other.stderr) == (2, True)
    done = skep(hive, *words)
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stderr
    told = lines(out.read_text())
    assert [one["result"]["n"] for one in told] == list(range(60))
    assert not part.exists()
    numbers = {one["callNum"] for one in told}
    listed = result(hive, "call", "list", "-q", "-n", "1000", "--function", "echo")
    made = {int(number) for number in listed.split() if int(number) > before}
    assert made == numbers
    again = skep(hive, *words)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_what_makes_no_sense_is_told(hive: Up, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"n": 1}\n{"n": \n')
    for words, sign in (
        (["--map", str(file)], "in.jsonl, line 2 is not JSON"),
        (["--map", str(file), "a=1"], "--map takes params from its file"),
        (["--out", str(tmp_path / "x")], "--out is for --map"),
        (["--map", str(tmp_path / "none")], "No such file"),
    ):
        done = skep(hive, "invoke", "echo", *words)
        assert (done.returncode, sign in done.stderr) == (2, True), done.stderr
