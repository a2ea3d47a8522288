"""A host without an agent's interpreter: commands run all the same, handlers say why not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniworker import tools
from tests.miniworker.rig import Rig, open_folder, probe
from tests.runtimes.languages import NODE, Language
from tests.runtimes.places import Place
from wire import jobs
from wire.models import Fault, Status

ABSENT = "no-such-interpreter"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig whose agents of node and mine are written for a program that is nowhere."""
    folder = open_folder(tmp_path_factory.mktemp("absent"))
    settings = probe(folder, "auto")["settings"]
    changed = folder / "changed"
    shutil.copytree(settings["tools"], changed, symlinks=True)
    for name in ("node", "mine"):
        agent = changed / tools.AGENTS / name
        agent.write_text(f"#!/usr/bin/env {ABSENT}\n")
        agent.chmod(0o755)
    with Rig({**settings, "tools": str(changed)}) as made:
        yield made


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    shared.clear()


def test_commands_are_run_by_pythons_agent(rig: Rig) -> None:
    place = Place(rig, NODE, {}, run="cat")
    outcome, result, *_ = place.call({"a": 1})
    assert (outcome.status, result) == (Status.DONE, b'{"a": 1}')


def test_a_handler_says_what_is_missing(rig: Rig) -> None:
    files = {NODE.module: NODE.handlers}
    broken = Place(rig, NODE, files, entry="hello.give").open()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.NODE, "no_agent")
    assert f"needs the program '{ABSENT}'" in broken.reason.message
    assert "containers" in broken.reason.message


def test_another_agent_is_replaced_by_none(rig: Rig) -> None:
    mine = Language(name="mine", program=ABSENT, test="", script="", run="cat")
    broken = Place(rig, mine, {}, run="cat").open()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.NODE, "no_agent")


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("#!/usr/bin/env sh\n", ""),
        ("#!/bin/sh\n", ""),
        ("#!/bin/sh -e\n", ""),
        (f"#!/usr/bin/env {ABSENT}\n", ABSENT),
        (f"#!/opt/{ABSENT}\n", f"/opt/{ABSENT}"),
        ("#!/usr/bin/env\n", ""),
        ("#!\n", ""),
        ("", ""),
        ("\x7fELF", ""),
    ],
)
def test_what_an_agents_first_line_asks_for(tmp_path: Path, line: str, lacks: str) -> None:
    (tmp_path / "agent").write_text(line)
    assert tools.lacks(tmp_path / "agent", "/usr/bin:/bin") == lacks
