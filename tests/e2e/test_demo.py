"""``skep demo``: a result on the screen, and nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import children, eventually
from tests.e2e.harness import environment, skep


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_shows_each_step_and_leaves_nothing(temporary: Path) -> None:
    before = children()
    ran = skep("demo")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for step in (
        "dbnode ready",
        "api ready",
        "node1 ready",
        "process: ",
        "register",
        "stopping",
    ):
        assert step in ran.stdout
    rolls = re.findall(r"-> \[[1-6],[1-6],[1-6],[1-6]\]  \(DONE, (cold|warm)", ran.stdout)
    assert rolls == ["cold", "warm"]
    assert "\x1b" not in ran.stdout
    assert not children() - before
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("step", ["dbnode ready", "node1 ready", "register the function"])
def test_ctrl_c_cleans_up(temporary: Path, step: str) -> None:
    before = children()
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-u", "-P", "-m", "cli", "demo"],
        env=environment(),
        stdout=write,
        stderr=write,
    ) as demo:
        os.close(write)
        with os.fdopen(read) as output:
            for line in output:
                if step in line:
                    demo.send_signal(signal.SIGINT)
                    break
            rest = output.read()
        assert demo.wait(30) != 0, rest
    assert "Traceback" not in rest
    eventually(lambda: not children() - before)
    assert not list(temporary.iterdir())
