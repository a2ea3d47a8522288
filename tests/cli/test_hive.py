"""A hive of small real processes: order, deaths, orphans, hurry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.folder import Folder
from cli.hive import Hive
from cli.life import environment
from cli.screen import Screen
from cli.supervisor import Supervisor
from tests.conftest import children, eventually, soon

CHILD = Path(__file__).parent / "children" / "child.py"


class Play:
    """A plan whose children play roles."""

    def __init__(self, trace: Path, *stages: Mapping[str, str]) -> None:
        self.roles = {name: role for stage in stages for name, role in stage.items()}
        self.stages = tuple(tuple(stage) for stage in stages)
        self.trace = trace
        self.facts: dict[str, Mapping[str, Any]] = {}
        self.first: list[tuple[str, bool]] = []

    def command(self, child: str, *, first: bool) -> list[str]:
        self.first.append((child, first))
        return [sys.executable, str(CHILD), self.roles[child], child, str(self.trace)]

    def environment(self, child: str) -> Mapping[str, str]:
        return {"CHILD": child}

    def note(self, child: str, facts: Mapping[str, Any]) -> None:
        self.facts[child] = facts

    def lines(self) -> list[str]:
        return self.trace.read_text().splitlines() if self.trace.exists() else []


def hive_of(
    play: Play,
    folder: Folder,
    *,
    ready_limit_s: float = 20.0,
    stop_limit_s: float = 20.0,
    orphans_s: float = 20.0,
) -> Hive:
    folder.take()
    supervisor = Supervisor(play.stages, ready_limit_s, stop_limit_s)
    return Hive(play, folder, Screen(), environment(None), supervisor, orphans_s=orphans_s)


async def test_starts_in_order_and_stops_in_the_other(tmp_path: Path) -> None:
    play = Play(tmp_path / "trace", {"db": "good"}, {"api": "good"}, {"w": "good"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await soon(hive.is_up.is_set)
    assert play.facts["db"]["name"] == "db"
    hive.ask_to_stop()
    await hive.finish()
    folder.release()
    started = ["start db", "start api", "start w"]
    assert play.lines() == [*started, "stop w", "stop api", "stop db"]
    assert not hive.has_failed
    assert not folder.run.exists()


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    play = Play(tmp_path / "trace", {"db": "good"}, {"api": "good"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await soon(hive.is_up.is_set)
    before = hive.pids()["db"]
    os.kill(before, signal.SIGKILL)
    await soon(lambda: play.lines().count("start db") == 2)
    assert hive.pids()["db"] != before
    assert play.first == [("db", True), ("api", True), ("db", False)]
    hive.ask_to_stop()
    await hive.finish()
    folder.release()


async def test_a_child_that_fails_once_at_the_start_gets_another_try(tmp_path: Path) -> None:
    role = f"once:{tmp_path / 'mark'}"
    play = Play(tmp_path / "trace", {"db": role}, {"api": "good"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await soon(hive.is_up.is_set)
    hive.ask_to_stop()
    await hive.finish()
    folder.release()
    assert play.lines()[:3] == ["start db", "start db", "start api"]


async def test_a_hopeless_child_ends_all_and_its_last_words_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play = Play(tmp_path / "trace", {"db": "good"}, {"api": "dies"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await hive.finish()
    folder.release()
    said = capsys.readouterr().err
    assert hive.has_failed
    assert "giving up" in said
    assert "the reason why it dies" in said
    assert "api.log" in said
    assert play.lines()[-1] == "stop db"


async def test_a_program_that_is_not_there_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nowhere(Play):
        def command(self, child: str, *, first: bool) -> list[str]:
            return [str(tmp_path / "no such program"), *super().command(child, first=first)]

    play = Nowhere(tmp_path / "trace", {"db": "good"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await hive.finish()
    folder.release()
    assert hive.has_failed
    assert "cannot be started" in capsys.readouterr().err


async def test_what_is_mute_or_stubborn_is_killed(tmp_path: Path) -> None:
    play = Play(tmp_path / "trace", {"deaf": "stubborn"}, {"mute": "mute"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder, ready_limit_s=1.0, stop_limit_s=0.3)
    hive.begin()
    await hive.finish()
    folder.release()
    assert hive.has_failed
    assert play.lines().count("start mute") == 3
    assert not hive.pids()


async def test_asked_twice_nothing_is_waited_for(tmp_path: Path) -> None:
    play = Play(tmp_path / "trace", {"db": "stubborn"}, {"api": "stubborn"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await soon(hive.is_up.is_set)
    hive.ask_to_stop()
    hive.ask_to_stop()
    await hive.finish()
    folder.release()
    assert not hive.has_failed


@pytest.mark.parametrize("role", ["parent", "litter"])
async def test_what_a_killed_child_leaves_behind_is_gone_too(tmp_path: Path, role: str) -> None:
    before = children()
    play = Play(tmp_path / "trace", {"w": role})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder, orphans_s=0.2)
    hive.begin()
    await soon(hive.is_up.is_set)
    os.kill(hive.pids()["w"], signal.SIGKILL)
    await soon(lambda: play.lines().count("start w") == 2)
    hive.ask_to_stop()
    await hive.finish()
    folder.release()
    assert children() == before


async def test_warnings_of_children_reach_the_user_while_they_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play = Play(tmp_path / "trace", {"db": "good"})
    folder = Folder(tmp_path / "data")
    hive = hive_of(play, folder)
    hive.begin()
    await soon(lambda: "WARNING db: a word to the user" in capsys.readouterr().err)
    await soon(hive.is_up.is_set)
    assert hive.pids().keys() == {"db"}
    hive.ask_to_stop()
    await hive.finish()
    folder.release()


PARENT = """
import asyncio, sys
from pathlib import Path
from cli.folder import Folder
from tests.cli.test_hive import Play, hive_of

async def main() -> None:
    folder = Folder(Path(sys.argv[1]) / "data")
    play = Play(Path(sys.argv[1]) / "trace", {"db": "good"}, {"api": "good"}, {"w": "good"})
    hive = hive_of(play, folder)
    hive.begin()
    await hive.finish()

asyncio.run(main())
"""


def test_the_order_of_stopping_holds_even_when_the_parent_is_killed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, env=environment(None), stderr=subprocess.DEVNULL) as parent:
        eventually(lambda: trace.exists() and "start w" in trace.read_text())
        parent.kill()
    eventually(lambda: trace.read_text().count("stop") == 3)
    assert trace.read_text().split("\n")[3:6] == ["stop w", "stop api", "stop db"]
