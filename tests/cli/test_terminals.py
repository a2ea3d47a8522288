"""The same installation seen in real terminals: widths, colours, keys, what is live."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.session import ECHO, result, skep, write
from tests.cli.terminal import STYLES, terminal
from tests.e2e.harness import Up, up

TABLES = (
    ("call", "list"), ("function", "list"), ("worker", "list"),
    ("function", "revisions", "dice"), ("runtime", "list"),
)  # fmt: skip
#: Each test starts many processes, all of them on whatever machine there is.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def nothing_outlives(hive: Up) -> None:
    """Sandboxes of the installation come and go during a test; its end proves that all went."""


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("columns", [60, 200])
def test_tables_fit_their_terminal(hive: Up, columns: int) -> None:
    skep(hive, "invoke", "echo", "text=" + "long " * 60)
    for words in TABLES:
        with terminal(*words, columns=columns, SKEP_URL=hive.url) as screen:
            assert screen.ended() == 0
            assert STYLES.search(screen.raw), screen.raw
        assert max(len(line.rstrip()) for line in screen.text.splitlines()) <= columns


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("words", TABLES)
def test_tables_say_the_same_with_colour_and_without(hive: Up, words: tuple[str, ...]) -> None:
    shown = {}
    for name, more, no_color in (("colour", (), ""), ("variable", (), "1"),
                                 ("option", ("--no-color",), "")):  # fmt: skip
        with terminal(*words, *more, SKEP_URL=hive.url, NO_COLOR=no_color) as screen:
            assert screen.ended() == 0
            assert bool(STYLES.search(screen.raw)) == (name == "colour"), screen.raw
            lines = [line.rstrip() for line in screen.text.splitlines()]
            assert max(map(len, lines)) <= 80
            shown[name] = [line.split()[0] for line in lines]
    assert shown["colour"] == shown["variable"] == shown["option"]


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


@pytest.mark.parametrize("columns", [60, 100])
def test_up_fits_its_terminal_and_says_what_to_type_next(tmp_path: Path, columns: int) -> None:
    data = tmp_path / "data"
    with terminal("up", "--port", "0", "--data", str(data), columns=columns) as screen:
        shown = screen.until("stop      Ctrl-C", "skep dev hello")
        screen.type("\x03")
        assert screen.ended() == 0
    assert "export SKEP_URL=http://127.0.0.1:" in shown
    confined = shown.partition("  sandbox ")[2].partition("  stop ")[0].splitlines()
    assert len(confined) > 1
    assert all(0 < len(line) <= columns for line in confined[1:])


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


def test_dev_says_once_that_skep_is_away_and_registers_when_it_is_back(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "bench", test_py=ECHO, requirements_txt="")
    write(folder, skep_json='{"runtime": "pythonruntime"}')
    with (
        up(tmp_path / "data") as hive,
        terminal("dev", str(folder), "--no-prepare", SKEP_URL=hive.url) as screen,
    ):
        screen.until("pythonruntime registered", "bench revision 1")
        port = int(hive.url.rpartition(":")[2])
        assert hive.end(signal.SIGTERM) == 0
        screen.until("still trying")
        write(folder, test_py=ECHO + "#")
        screen.until("changed")
        with up(tmp_path / "data", port=port):
            shown = screen.until("bench revision 2")
            assert (shown.count("still trying"), shown.count("changed")) == (1, 1)
            screen.type("\x03")
            assert screen.ended() == 0
