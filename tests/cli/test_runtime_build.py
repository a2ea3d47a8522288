"""``skep runtime build``: a real engine, a real installation; and what is said without them."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from cli.bases import NoImage, ensure_base
from tests import engine
from tests.cli.scripted import Script, run
from tests.e2e.harness import environment

DOCKERFILE = (
    "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\nARG GREETING=hello\nRUN echo $GREETING\n"
)


class Engine:
    """As much of an engine as matters for a base image."""

    def __init__(self, *images: str, refuses: str = "") -> None:
        self._images = images
        self._refuses = refuses
        self.pulled: list[str] = []

    def has(self, name: str) -> bool:
        """As the engine."""
        return name in self._images

    def pull(self, name: str) -> str:
        """As the engine."""
        self.pulled.append(name)
        return self._refuses


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_a_base_that_is_there_is_used(folder: Path) -> None:
    known = Engine("debian:bookworm-slim")
    ensure_base(known, folder, {})
    assert known.pulled == []


def test_a_base_that_is_not_there_is_pulled_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Engine()
    ensure_base(known, folder, {"BASE": "ruby:3"})
    assert known.pulled == ["ruby:3"]
    assert "pulling ruby:3" in capsys.readouterr().err


def test_a_base_that_nobody_has_is_named_with_a_hint(folder: Path) -> None:
    with pytest.raises(
        NoImage, match="'ruby:3' is neither here nor can it be pulled: no way"
    ) as e:
        ensure_base(Engine(refuses="no way"), folder, {"BASE": "ruby:3"})
    assert "--build-arg BASE=IMAGE" in e.value.hint


@pytest.mark.docker
def test_a_base_that_can_neither_be_pulled_nor_made_says_so(
    folder: Path, server: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.require()
    server.answers += [(200, {"status": "ok"})]
    base = ("--build-arg", "BASE=debian:nosuchsuite-slim")
    away = {"SKEP_BASE_MIRROR": "http://127.0.0.1:9/debian", "SKEP_URL": server.url}
    result = run("runtime", "build", str(runtime(folder)), *base, **away)
    assert result.exit_code != 0
    assert "pulling debian:nosuchsuite-slim" in result.stderr
    assert "it is made from Debian packages" in result.stderr
    assert "the base image 'debian:nosuchsuite-slim' was not made" in result.stderr
    assert "SKEP_BASE_MIRROR" in result.stderr
    assert "http://127.0.0.1:9/debian has no suite nosuchsuite" in capfd.readouterr().err
    assert len(server.asked) == 1


def test_a_dockerfile_without_a_base_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    known = Engine()
    ensure_base(known, tmp_path, {})
    assert known.pulled == []


def runtime(folder: Path, image: str = "mine") -> Path:
    description = {"name": "mine", "image": image, "path": "/ws", "run": "cat"}
    (folder / "runtime.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing-such",), "neither a runtime that skep comes with (node, perl, php"),
        (("{folder}", "--build-arg", "BASE"), "'BASE' is not NAME=VALUE"),
        (("{folder}", "--ca-bundle", "{folder}/Dockerfile.large"), "your own authority alone"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_done(
    folder: Path, server: Script, arguments: tuple[str, ...], says: str
) -> None:
    runtime(folder)
    (folder / "Dockerfile.large").write_text("x" * 200_000)
    words = [one.format(folder=folder) for one in arguments]
    result = run("runtime", "build", *words, SKEP_URL=server.url)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert server.asked == []


def test_without_an_engine_it_says_what_to_do(folder: Path, server: Script) -> None:
    server.answers += [(200, {"status": "ok"})]
    given = {"SKEP_URL": server.url, "DOCKER_HOST": f"unix://{folder}/none.sock"}
    # A process of its own: what the package leaves open when nobody answers ends with it.
    result = subprocess.run(
        [sys.executable, "-P", "-m", "cli", "runtime", "build", str(runtime(folder))],
        env={**environment(), **given},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode != 0
    assert "no Docker engine answers" in result.stderr
    assert "DOCKER_HOST" in result.stderr


@pytest.mark.docker
@pytest.mark.timeout(400)
def test_an_image_is_made_before_ones_eyes_and_registered(folder: Path, server: Script) -> None:
    engine.python_image()
    tag = f"skep-test/build-{secrets.token_hex(6)}:1"
    answer = {"name": "mine", "revision": 1, "image": tag}
    server.answers += [(200, {"status": "ok"}), (201, answer)]
    words = ("runtime", "build", str(runtime(folder)), "--tag", tag)
    try:
        result = run(*words, "--build-arg", "GREETING=hi there", SKEP_URL=server.url)
        assert (result.exit_code, result.stdout) == (0, "mine\n"), result.stderr
        assert "Step 1/" in result.stderr
        assert "hi there" in result.stderr
        assert json.loads(server.asked[1][3])["image"] == tag
        (folder / "Dockerfile").write_text(DOCKERFILE + "RUN echo why; exit 3\n")
        server.answers += [(200, {"status": "ok"})]
        result = run(*words, SKEP_URL=server.url)
        assert result.exit_code != 0
        assert "why" in result.stderr
        assert "was not made" in result.stderr
        assert len(server.asked) == 3
    finally:
        engine.docker("image", "rm", tag)
