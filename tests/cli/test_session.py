"""A user's day at the command line, against a real installation, in pipes."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.session import result, skep, write
from tests.cli.terminal import ESCAPES
from tests.e2e.harness import Up, environment

#: Each test starts many processes, all of them on whatever machine there is.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def nothing_outlives(hive: Up) -> None:
    """Sandboxes of the installation come and go during a test; its end proves that all went."""


@pytest.mark.usefixtures("functions")
def test_invoke_prints_the_bare_result_however_params_come(hive: Up, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"roll": "1d1"}')
    for words in (('{"roll": "1d1"}',), ("roll=1d1",), ("-f", str(tmp_path / "p.json"))):
        done = skep(hive, "invoke", "dice", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[1]\n", "")
    assert result(hive, "invoke", "dice", "-f", "-", given='{"roll": "2d1"}') == "[1,1]\n"
    bad = skep(hive, "invoke", "dice", "roll=nonsense")
    assert (bad.returncode, "ended FAILED" in bad.stderr) == (1, True)
    assert json.loads(result(hive, "invoke", "echo", "n=3", "t=x", "l=[1]")) == {
        "n": 3, "t": "x", "l": [1],
    }  # fmt: skip


@pytest.mark.usefixtures("functions")
def test_a_call_is_made_waited_for_listed_explained_and_its_logs_read(hive: Up) -> None:
    number = result(hive, "invoke", "echo", "a=1", "--async").strip()
    assert json.loads(result(hive, "call", "wait", number, "--timeout", "30s")) == {"a": 1}
    logs = skep(hive, "call", "logs", number, "--follow")
    assert "to the log" in logs.stderr
    listed = result(hive, "call", "list", "--function", "echo", "--status", "done", "-n", "1")
    heading, row = listed.splitlines()
    assert heading.split("\t")[:3] == ["CALL", "FUNCTION", "STATUS"]
    assert row.split("\t")[:3] == [number, "echo", "DONE"]
    assert row.split("\t")[3].endswith("Z")
    assert result(hive, "call", "ls", "-q", "-n", "1") == f"{number}\n"
    told = result(hive, "call", "explain", number)
    assert f"Call {number} of echo (revision 1) ended DONE" in told
    assert "ran" in told
    assert "█" not in told
    stages = json.loads(result(hive, "call", "explain", number, "--json"))["stages"]
    assert stages["run"] > 0


@pytest.mark.usefixtures("functions")
def test_a_function_is_updated_downloaded_and_removed(hive: Up, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", test_py="print(1)", requirements_txt="")
    write(folder, skep_json='{"runtime": "pythonruntime", "timeout": 9, "env": {"A": "1"}}')
    assert result(hive, "function", "register", "f", str(folder), "--no-prepare") == "f\n"
    result(hive, "function", "update", "f", "--memory", "1g", "--env", "B=2", "--no-prepare")
    shown = json.loads(result(hive, "function", "show", "f", "--json"))
    assert (shown["revision"], shown["memory"], shown["timeout"]) == (2, 1024, 9.0)
    assert shown["env"] == {"A": "1", "B": "2"}
    result(hive, "function", "update", "f", "--unset", "env", "--unset", "timeout",
           "--no-prepare")  # fmt: skip
    shown = json.loads(result(hive, "function", "show", "f", "--json"))
    assert (shown["timeout"], shown["env"]) == (5.0, {})
    (folder / "test.py").write_text("print(2)")
    result(hive, "function", "update", "f", str(folder), "--no-prepare")
    rows = result(hive, "function", "revisions", "f").splitlines()
    assert [row.split("\t")[0] for row in rows] == ["REVISION", "1", "2", "3", "4"]
    result(hive, "function", "download", "f", "-o", str(tmp_path / "x"), "--revision", "1")
    with tarfile.open(tmp_path / "x") as tar:
        assert tar.getnames() == ["requirements.txt", "test.py"]
    assert result(hive, "function", "rm", "f") == "f\n"
    again = skep(hive, "function", "remove", "f", "echoo", "dice2")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.count("unknown_function") == 3
    as_json = json.loads(skep(hive, "function", "rm", "f", "--json").stdout)
    assert (as_json["removed"], as_json["errors"][0]["code"]) == ([], "unknown_function")


@pytest.mark.usefixtures("functions")
def test_a_mistyped_name_is_answered_with_those_like_it(hive: Up) -> None:
    wrong = skep(hive, "invoke", "dcie", "roll=1d1")
    assert wrong.returncode == 2
    assert "Did you mean dice?" in wrong.stderr
    as_json = json.loads(skep(hive, "invoke", "dcie", "--json").stderr)
    assert "dice" in as_json["error"]["hint"]
    runtime = skep(hive, "runtime", "show", "pythonruntme")
    assert "Did you mean pythonruntime?" in runtime.stderr
    assert "Did you mean dice?" in skep(hive, "function", "rm", "dcie").stderr
    nowhere = skep(hive, "function", "show", "qqq").stderr
    assert "hint:  skep function list shows all" in nowhere
    revision = skep(hive, "function", "show", "dice", "--revision", "99").stderr
    assert "skep function revisions dice" in revision


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    "words",
    [
        ("call", "list"), ("function", "list"), ("function", "list", "-l"),
        ("function", "revisions", "dice"), ("runtime", "list", "--long"), ("worker", "list"),
        ("top",), ("doctor",), ("version",), ("function", "show", "dice"),
        ("call", "explain", "1"),
    ],
)  # fmt: skip
def test_no_escape_codes_in_a_pipe_and_json_everywhere(
    hive: Up, words: tuple[str, ...]
) -> None:
    plain = skep(hive, *words, FORCE_COLOR="1")
    assert plain.stdout
    assert not ESCAPES.search(plain.stdout + plain.stderr)
    assert json.loads(skep(hive, *words, "--json").stdout)


def complete(hive: Up, line: str) -> list[str]:
    """Return what bash would be offered at the end of a line."""
    words = line.split(" ")
    done = skep(
        hive, _SKEP_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
    )
    return [one.partition(",")[2] for one in done.stdout.splitlines()]


@pytest.mark.usefixtures("functions")
def test_completion_offers_commands_and_names_and_is_silent_when_skep_is_away(
    hive: Up,
) -> None:
    assert "invoke" in complete(hive, "skep in")
    assert complete(hive, "skep invoke di") == ["dice"]
    assert complete(hive, "skep runtime show py") == ["pythonruntime"]
    newest = result(hive, "invoke", "dice", "roll=1d1", "--async").strip()
    assert newest in complete(hive, f"skep call show {newest[0]}")
    away = subprocess.run(
        [sys.executable, "-P", "-m", "cli"],
        env={**environment(), "SKEP_URL": "http://127.0.0.1:9", "COMP_CWORD": "2",
             "_SKEP_COMPLETE": "bash_complete", "COMP_WORDS": "skep invoke d"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (away.returncode, away.stdout.strip(), away.stderr) == (0, "", "")


def test_a_new_function_passes_its_own_test_and_runs(hive: Up, tmp_path: Path) -> None:
    done = skep(hive, "function", "new", "hello", "-o", str(tmp_path / "hello"))
    assert done.returncode == 0
    for command in (["-m", "unittest"], ["-m", "pytest", "-q", "-p", "no:cacheprovider"]):
        tested = subprocess.run(
            [sys.executable, *command], cwd=tmp_path / "hello", capture_output=True, text=True,
            timeout=50, check=False,
        )  # fmt: skip
        assert tested.returncode == 0, tested.stdout + tested.stderr
    assert skep(hive, "runtime", "register", "python").returncode == 0
    result(hive, "function", "register", "hello", str(tmp_path / "hello"))
    assert json.loads(result(hive, "invoke", "hello", "name=Ada")) == {"hello": "Ada"}
    assert json.loads(result(hive, "invoke", "hello")) == {"hello": "world"}
    again = skep(hive, "function", "new", "hello", "-o", str(tmp_path / "hello"))
    assert (again.returncode, "not empty" in again.stderr) == (2, True)
