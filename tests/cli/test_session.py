"""A user's day at the command line, against a real installation, in pipes and terminals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import ESCAPES, STYLES, terminal, write
from tests.conftest import children
from tests.e2e.harness import DICE, Up, assert_gone, environment, up

SLOW = "import json,sys,time\ntime.sleep(json.load(sys.stdin)['s'])\nprint('slept')\n"
ECHO = "import sys\nprint('to the log', file=sys.stderr)\nprint(sys.stdin.read())\n"


#: Each test starts many processes, all of them on whatever machine there is.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    before = children()
    data = tmp_path_factory.mktemp("session") / "data"
    with up(data, "--slots", "2") as running:
        yield running
    assert_gone(data, before)


@pytest.fixture(autouse=True)
def nothing_outlives(hive: Up) -> None:
    """Sandboxes of the installation come and go during a test; its end proves that all went."""


@pytest.fixture(scope="module")
def functions(hive: Up, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("functions")
    write(base / "slow", test_py=SLOW, requirements_txt="", skep_json='{"timeout": 60}')
    write(base / "echo", test_py=ECHO, requirements_txt="")
    assert skep(hive, "runtime", "register", "python").returncode == 0
    for name, path in (("dice", DICE), ("slow", base / "slow"), ("echo", base / "echo")):
        options = ("--runtime", "pythonruntime", "--no-prepare")
        done = skep(hive, "function", "register", name, str(path), *options)
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr


def skep(
    hive: Up, *arguments: str, given: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env={**environment(), "SKEP_URL": hive.url, **variables},
        input=given, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def result(hive: Up, *arguments: str, given: str = "") -> str:
    done = skep(hive, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("functions")
def test_invoke_prints_the_bare_result_however_params_come(hive: Up, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"roll": "1d1"}')
    for words in (('{"roll": "1d1"}',), ("roll=1d1",), ("-f", str(tmp_path / "p.json"))):
        done = skep(hive, "invoke", "dice", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[1]\n", "")
    assert result(hive, "invoke", "dice", "-f", "-", given='{"roll": "2d1"}') == "[1,1]\n"
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


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    "words",
    [
        ("call", "list"), ("function", "list"), ("function", "list", "-l"),
        ("function", "revisions", "dice"), ("runtime", "list", "--long"), ("worker", "list"),
        ("top",), ("doctor",), ("function", "show", "dice"), ("call", "explain", "1"),
    ],
)  # fmt: skip
def test_no_escape_codes_in_a_pipe_and_json_everywhere(
    hive: Up, words: tuple[str, ...]
) -> None:
    plain = skep(hive, *words, FORCE_COLOR="1")
    assert plain.stdout
    assert not ESCAPES.search(plain.stdout + plain.stderr)
    assert json.loads(skep(hive, *words, "--json").stdout)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_tables_fit_their_terminal_with_colour_and_without(hive: Up, columns: int) -> None:
    skep(hive, "invoke", "echo", "text=" + "long " * 60)
    for words in (("call", "list"), ("function", "list"), ("worker", "list"),
                  ("function", "revisions", "dice"), ("runtime", "list")):  # fmt: skip
        shown = {}
        for name, no_color in (("colour", ""), ("none", "1")):
            with terminal(
                *words, columns=columns, SKEP_URL=hive.url, NO_COLOR=no_color
            ) as screen:
                assert screen.ended() == 0
                assert bool(STYLES.search(screen.raw)) == (name == "colour"), screen.raw
                shown[name] = [line.rstrip() for line in screen.text.splitlines()]
        assert max(map(len, shown["colour"])) <= columns
        assert [line.split()[0] for line in shown["colour"]] == [
            line.split()[0] for line in shown["none"]
        ]
        with terminal(*words, "--no-color", columns=columns, SKEP_URL=hive.url) as screen:
            assert screen.ended() == 0
            assert not STYLES.search(screen.raw)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    "words",
    [("call", "show", "1"), ("function", "show", "dice"), ("call", "explain", "1"),
     ("top", "--once"), ("call", "show", "1", "--no-color")],
)  # fmt: skip
def test_records_fit_their_terminal(hive: Up, words: tuple[str, ...]) -> None:
    skep(hive, "invoke", "dice", "roll=1d1")
    with terminal(*words, columns=80, SKEP_URL=hive.url) as screen:
        assert screen.ended() == 0
    assert max(map(len, screen.text.splitlines())) <= 80
    assert len(screen.text.splitlines()) > 5
    has_styles = words[-1] != "--no-color" and words[1] != "explain"
    assert bool(STYLES.search(screen.raw)) == has_styles


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("columns", [80, 200])
def test_top_is_live_quits_on_q_and_leaves_the_terminal_as_it_was(
    hive: Up, columns: int
) -> None:
    with terminal("top", columns=columns, SKEP_URL=hive.url) as screen:
        screen.until("WORKERS", "QUEUES", "RUNNING", "ENDED", "node1", "q quits")
        number = result(hive, "invoke", "slow", "s=30", "--async").strip()
        screen.forget()
        screen.until("slow")
        assert result(hive, "call", "cancel", number)
        screen.forget()
        screen.until("CANCELLED")
        screen.type("q")
        assert screen.ended() == 0
        # The alternate screen is left, the cursor is shown.
        assert screen.raw.rindex("\x1b[?1049l") > screen.raw.rindex("WORKERS")
        assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("WORKERS")


@pytest.mark.usefixtures("functions")
def test_a_waiting_invoke_shows_its_state_to_a_person_and_goes_on_after_ctrl_c(
    hive: Up,
) -> None:
    with terminal("invoke", "slow", "s=40", SKEP_URL=hive.url) as screen:
        screen.until("is RUNNING", " s")
        screen.type("\x03")
        assert screen.ended() == 130
        shown = screen.until("goes on; skep call wait")
    number = shown.partition("call wait ")[2].split()[0]
    assert result(hive, "call", "cancel", number)
    ended = skep(hive, "call", "wait", number)
    assert (ended.returncode, "ended CANCELLED" in ended.stderr) == (1, True)


@pytest.mark.usefixtures("functions")
def test_dev_registers_at_every_change_and_shows_calls_and_errors(
    hive: Up, tmp_path: Path
) -> None:
    folder = write(tmp_path / "work bench", test_py=ECHO, requirements_txt="")
    with terminal(
        "dev", str(folder), "--runtime", "pythonruntime", "--no-prepare", SKEP_URL=hive.url
    ) as screen:
        screen.until("ready", "work-bench revision 1", "skep invoke work-bench")
        assert json.loads(result(hive, "invoke", "work-bench", "a=1")) == {"a": 1}
        screen.until("DONE", "| to the log")
        write(folder, test_py=ECHO + "#", more_py="", skip_log="")
        screen.until("changed", "test.py", "+more.py", "revision 2")
        (folder / "bad").symlink_to("/etc/passwd")
        screen.until("error", "the link bad leads to /etc/passwd")
        (folder / "bad").unlink()
        write(folder, test_py="raise SystemExit('boom')")
        screen.until("revision 3")
        skep(hive, "invoke", "work-bench")
        screen.until("FAILED", "| boom")
        screen.type("\x03")
        assert screen.ended() == 0
        assert screen.text.count("the link bad leads") == 1
    assert "work-bench" in result(hive, "function", "list")


@pytest.mark.usefixtures("functions")
def test_following_calls_shows_them_as_they_begin_and_end(hive: Up) -> None:
    with terminal("call", "list", "-f", "-n", "1", SKEP_URL=hive.url, columns=200) as screen:
        number = result(hive, "invoke", "slow", "s=1", "--async").strip()
        screen.until(f"{number}  RUNNING", f"{number}  DONE", "slept")
        screen.type("\x03")
        assert screen.ended() == 130


@pytest.mark.usefixtures("functions")
def test_a_followed_status_is_seen_whenever_a_call_comes_to_it(hive: Up) -> None:
    options = ("-f", "-n", "1", "--status", "done")
    with terminal("call", "list", *options, SKEP_URL=hive.url, columns=200) as screen:
        screen.until("DONE")
        slow = result(hive, "invoke", "slow", "s=2", "--async").strip()
        fast = result(hive, "invoke", "echo", "--async").strip()
        shown = screen.until(f"{fast}  DONE", f"{slow}  DONE")
        assert "RUNNING" not in shown
        screen.type("\x03")
        assert screen.ended() == 130


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
    assert "1" in complete(hive, "skep call show 1")
    away = subprocess.run(
        [sys.executable, "-P", "-m", "cli"],
        env={**environment(), "SKEP_URL": "http://127.0.0.1:9", "COMP_CWORD": "2",
             "_SKEP_COMPLETE": "bash_complete", "COMP_WORDS": "skep invoke d"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (away.returncode, away.stdout.strip(), away.stderr) == (0, "", "")


def test_top_lives_through_the_death_of_skep_and_says_so(tmp_path: Path) -> None:
    with up(tmp_path / "data") as hive, terminal("top", SKEP_URL=hive.url) as screen:
        screen.until("workers 1")
        port = int(hive.url.rpartition(":")[2])
        assert hive.end(signal.SIGTERM) == 0
        screen.forget()
        screen.until("AWAY, trying again")
        with up(tmp_path / "data", port=port):
            screen.forget()
            screen.until("workers 1")
            screen.type("q")
            assert screen.ended() == 0


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
