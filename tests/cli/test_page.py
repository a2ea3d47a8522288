"""Every example of docs/cli.md is typed, as it stands, into a shell beside a running skep."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skep import Client
from tests.cli.session import write
from tests.e2e.harness import DICE, RUNTIME, environment, up

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
#: What runs until Ctrl-C.
ENDLESS = re.compile(r"skep (up|dev)\b|skep call list --follow")
#: The last line that it says before somebody thinks of Ctrl-C.
SAID = {"up": "Ctrl-C", "dev": "Ctrl-C", "call": "DONE"}
#: A free port of loopback and a folder of its own, whatever the example says.
UP = " --host 127.0.0.1 --port 0 --data {folder}/up"
#: The page calls them by number.
CALLS = 9
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def examples() -> list[str]:
    """Return the lines in an order in which they make sense: what removes comes last."""
    lines = re.findall(r"^\$ (.*)$", PAGE, flags=re.MULTILINE)
    # What needs an engine is in tests/cli/test_runtime_build.py and tests/e2e/test_images.py.
    # Only a node that is gone can be removed: tests/api/test_tending.py.
    # A store is moved while nobody uses it: tests/dbnode/test_moving.py.
    # What needs a registry: tests/e2e/test_registry.py.
    apart = (
        *("runtime build", "invoke run ", "worker remove", "skep db "),
        *("runtime push", "function push", "function build"),
    )
    lines = [line for line in lines if not any(words in line for words in apart)]
    assert len(lines) > 40
    order = ("runtime register", "function new", "function register", "invoke")
    last = ("function remove", "runtime remove")

    def place(line: str) -> int:
        if (at := next((i for i, word in enumerate(last) if word in line), None)) is not None:
            return len(order) + 1 + at
        return next((i for i, word in enumerate(order) if word in line), len(order))

    return sorted(lines, key=place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder that the page speaks of."""
    here = tmp_path / "work"
    write(here, params_json='{"roll": "4d6"}')
    shutil.copy(DICE, here / "dice.tar.gz")
    shutil.copytree(DICE.parent, here / "dice", ignore=shutil.ignore_patterns("*.gz"))
    (here / "params.jsonl").write_text('{"roll": "1d6"}\n{"roll": "2d6"}\n')
    (here / "my-runtime.json").write_text(
        '{"image": "mine", "path": "/ws", "run": "sh run.sh"}'
    )
    # As an executable, so that a line may begin with anything.
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "skep"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m cli "$@"\n')
    script.chmod(0o755)
    return here


def run(line: str, folder: Path, url: str) -> tuple[int, str]:
    """Type a line; what has no end is ended by Ctrl-C once it has said something."""
    own = UP.format(folder=folder) if "skep up" in line else ""
    path = f"{folder.parent / 'bin'}:{os.environ['PATH']}"
    running = subprocess.Popen(
        ["bash", "-c", f"exec {line}{own}" if ENDLESS.search(line) else line],
        cwd=folder,
        env=environment() | {"SKEP_URL": url, "PATH": path, "TOKEN": "t"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    with running:
        said = ""
        if ENDLESS.search(line):
            until = SAID[line.split()[1]]
            while until not in said and (more := running.stdout.readline()):
                said += more
            running.send_signal(signal.SIGINT)
        said += running.communicate(timeout=60)[0]
    return running.returncode, said


def test_every_example_does_what_it_says(folder: Path, tmp_path: Path) -> None:
    with up(tmp_path / "data") as hive, hive.client() as client:
        client.register_runtime(RUNTIME)
        client.register_function("pythonruntime", "dice", DICE)
        for _ in range(CALLS):
            client.submit_call("dice", {"roll": "1d1"}, wait=20)
        for line in examples():
            make_way_for(line, folder, client)
            status, said = run(line, folder, hive.url)
            assert status == (130 if "list --follow" in line else 0), f"{line}\n{said}"
            # Watching says nothing of its own, and nor does a call that printed nothing.
            assert said or "call logs" in line, line


def make_way_for(line: str, folder: Path, client: Client) -> None:
    """Remove what an example says would be in its way."""
    if "function download dice" in line:
        (folder / "dice.tar.gz").unlink(missing_ok=True)
    if "runtime remove" in line:
        for name in client.functions():
            client.delete_function(name)
