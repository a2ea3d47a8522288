"""runtimes/base: an image of any language and a runtime.sh are a runtime, and PID 1 reaps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engine
from tests.miniworker.rig import Rig, is_zombie, open_folder, probe
from tests.runtimes.languages import SHELL
from tests.runtimes.places import Place
from wire.models import Status

BASE = Path(__file__).parents[2] / "runtimes" / "base"
AWK = """
{ print "said", $0 }
END { system("(sh -c 'sleep 0.01 &') >/dev/null 2>&1; (setsid sleep 600 &) >/dev/null 2>&1") }
"""
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image() -> str:
    """The example's image, made of the base, made of the image of a language."""
    given = f"BASE={engine.runtime_image('shell')}"
    base, made = f"{engine.IMAGES}/base", f"{engine.IMAGES}/awk"
    build = ("build", "--network", "host", "--build-arg")
    engine.docker(*build, given, "--tag", base, str(BASE), limit_s=280)
    example = str(BASE / "example")
    engine.docker(*build, f"BASE={base}", "--tag", made, example, limit_s=280)
    return made


@pytest.fixture
def rig(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    found = probe(open_folder(tmp_path_factory.mktemp("base")), "container")
    with Rig(found["settings"], driver="docker") as made:
        yield made
        made.clear()
        made.check()


def test_a_runtime_of_a_languages_image_and_a_line_of_shell(rig: Rig, image: str) -> None:
    runtime = {"image": image, "run": "runtime.sh"}
    place = Place(rig, SHELL, {"main.awk": AWK}, runtime=runtime)
    for number in range(5):
        outcome, result, _, stderr = place.call({"n": number})
        assert outcome.status is Status.DONE, (outcome, stderr)
        assert result.decode() == f'said {{"n": {number}}}\n'
    assert place.sandboxes == 1
    # Nothing is left of what lost its parents: neither running nor as a zombie.
    assert not [pid for pid in place.inside() if is_zombie(pid)]
    assert place.processes("sleep") == []


ALPINE = ("apk", "setsid", "mkfifo", "stat")
DEBIAN = ("apt-get", "rm", "setsid", "mkfifo", "stat")
LANGUAGE = ("bash", "perl")


@pytest.mark.parametrize(
    ("has", "installs"),
    [
        (ALPINE, ["apk add --no-cache bash coreutils util-linux perl"]),
        ((*ALPINE, *LANGUAGE), []),
        ((*DEBIAN, *LANGUAGE), []),
        (DEBIAN, [
            "apt-get update",
            "apt-get install --yes --no-install-recommends bash coreutils util-linux perl-base",
        ]),
    ],
    ids=["alpine", "alpine-complete", "debian-complete", "debian"],
)  # fmt: skip
def test_what_the_agent_needs_is_installed_where_it_is_not(
    tmp_path: Path, has: tuple[str, ...], installs: list[str]
) -> None:
    """The step alone, with tools that note how they are called: no Alpine is to be had here."""
    log = tmp_path / "log"
    for name in has:
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>{log}\n')
        tool.chmod(0o755)
    step = (BASE / "Dockerfile").read_text().partition("\nRUN ")[2].partition("\nONBUILD")[0]
    env = {"PATH": str(tmp_path), "MIRROR": "", "SECURITY_MIRROR": "", "CA": ""}
    text = step.replace("\\\n", "")
    subprocess.run(["/bin/sh", "-c", text], env=env, check=True)
    said = log.read_text().splitlines() if log.exists() else []
    assert [line for line in said if not line.startswith("rm ")] == installs


def test_whose_image_it_is() -> None:
    shown = engine.docker(
        "image", "inspect", "--format", "{{.Config.User}}", f"{engine.IMAGES}/awk"
    )
    assert shown == "65532:65532"
