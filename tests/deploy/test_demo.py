"""``make cluster-demo``: docker-compose.yml brought up for real, two nodes on one engine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import engine
from tests.conftest import eventually
from tests.deploy import platform_image

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the demo's environment: it works in a folder below tmp_path."""
    engine.require()
    if shutil.which("docker-compose") is None and not os.environ.get("CI"):
        pytest.skip(f"{engine.NEEDED}-compose")
    return {**platform_image.environment(), "TMPDIR": str(tmp_path)}


def left(project: str) -> str:
    """Return what is left of a project of compose, and of its calls."""
    mine = f"--filter=label=com.docker.compose.project={project}"
    asked = [
        ("ps", "--all", "--quiet"),
        ("volume", "ls", "--quiet"),
        ("network", "ls", "--quiet"),
    ]
    found = [*engine.containers(project), *(engine.docker(*one, mine) for one in asked)]
    return "".join(found)


def project_of(said: str) -> str:
    found = re.search(r"project (skep-demo-\w+)", said)
    assert found, said
    return found[1]


def test_every_call_ends_whatever_becomes_of_its_node_and_nothing_is_left(
    environment: dict[str, str], tmp_path: Path
) -> None:
    demo = subprocess.run(
        ["make", "cluster-demo", f"PYTHON={sys.executable}"], cwd=engine.ROOT, env=environment,
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    said = demo.stdout
    assert demo.returncode == 0, said + demo.stderr
    assert "published on 127.0.0.1 alone" in said
    assert "✓ 200 of 200 calls have ended: " in said
    assert re.search(r"✓ \d+ dispatched again, and DONE on worker-1", said), said
    numbers = re.search(r"✓ (\d+) of (\d+) calls are DONE: not one was lost", said)
    assert numbers
    assert numbers[1] == numbers[2]
    # Plain where no person looks; and neither a container nor a log stays.
    assert "\x1b" not in said
    assert left(project_of(said)) == ""
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_takes_down_what_was_up(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.demo"], cwd=engine.ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout
        project = project_of(demo.stdout.readline())
        eventually(lambda: left(project), 400, "something of the project")
        demo.send_signal(signal.SIGINT)
        said = demo.stdout.read()
    assert demo.returncode == 130, said
    assert "✗ interrupted: Bring it up" in said
    assert left(project) == ""


def test_a_step_that_fails_is_named_and_its_logs_stay(
    environment: dict[str, str], tmp_path: Path
) -> None:
    nameless = {**environment, "SKEP_IMAGE": "NO NAME OF AN IMAGE"}
    demo = subprocess.run(
        [sys.executable, "-m", "deploy.demo"], cwd=engine.ROOT, env=nameless,
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert demo.returncode == 1
    assert "✗ Images: " in demo.stdout
    (folder,) = tmp_path.iterdir()
    assert f"logs: {folder}" in demo.stdout
    assert (folder / "images.log").is_file()
