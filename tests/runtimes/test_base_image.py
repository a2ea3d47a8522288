"""The base image that is made where nothing can be pulled, and when it is not made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests import engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
SCRIPT = engine.ROOT / "runtimes" / "base-image.sh"
OWN = "skep-test/own:1"


def script(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=engine.BUILD_S,
    )


@pytest.fixture
def base() -> str:
    engine.python_image()
    return "debian:bookworm-slim"


@pytest.fixture
def somebodys() -> Iterator[str]:
    """An image that this script did not make, under a name that it is asked for."""
    engine.require()
    empty = bytes(1024)
    command = ["docker", "import", "-", OWN]
    made = subprocess.run(command, input=empty, capture_output=True, check=True)
    yield made.stdout.decode().strip()
    engine.docker("image", "rm", OWN)


def test_what_is_there_is_not_made_again(base: str) -> None:
    before = engine.docker("image", "inspect", "--format", "{{.Id}}", base)
    ran = script()
    assert (ran.returncode, ran.stdout) == (0, f"{base}\n"), ran.stderr
    assert "already" in ran.stderr
    assert engine.docker("image", "inspect", "--format", "{{.Id}}", base) == before


def test_an_image_of_somebody_else_is_never_replaced(somebodys: str) -> None:
    for options in ((), ("--force",)):
        ran = script(*options, OWN)
        assert (ran.returncode, ran.stdout) == (0, f"{OWN}\n"), ran.stderr
        assert "left as it is" in ran.stderr
        assert engine.docker("image", "inspect", "--format", "{{.Id}}", OWN) == somebodys


def test_it_is_slim_and_stays_so(base: str) -> None:
    if not engine.docker("image", "inspect", "--format", '{{index .Config.Labels "skep.base"}}',
                         base):  # fmt: skip
        pytest.skip(f"{base} was pulled")
    look = (
        "set -e; test ! -e /usr/share/man; test ! -d /usr/share/locale/de; "
        "test -z \"$(ls /var/lib/apt/lists)\"; grep -q 'path-exclude /usr/share/man' "
        "/etc/dpkg/dpkg.cfg.d/docker; test ! -s /etc/machine-id; . /etc/os-release; "
        "echo $VERSION_CODENAME"
    )
    run = ("run", "--rm", "--network", "none", "--label", "skep=test", base, "sh", "-c", look)
    assert engine.docker(*run) == "bookworm"


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"DOCKER_HOST": "unix:///nonexistent/docker.sock"}, "does not answer"),
        ({"SKEP_BASE_MIRROR": "http://127.0.0.1:9/debian"}, "SKEP_BASE_MIRROR"),
    ],
)
def test_what_is_wanting_is_said_with_a_hint(env: dict[str, str], word: str) -> None:
    engine.require()
    ran = script("skep-test/never-made:1", **env)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert word in ran.stderr
    assert "hint: " in ran.stderr
