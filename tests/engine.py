"""The Docker engine that tests use: is there one, an image for it, what is left on it.

Everything that a test makes has the label of an installation of its own, and is gone at its
end; the images stay: they are made once and found again by their content.
"""

from __future__ import annotations

import fcntl
import functools
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMAGES = "skep-test"
PYTHON_IMAGE = f"{IMAGES}/python"
BUILD_S = 280
#: How the reason of each skipped test begins.
NEEDED = "needs Docker"


def docker(*arguments: str, limit_s: float = 60, **options: Any) -> str:
    """Run the docker command; return what it printed."""
    command = ["docker", *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=limit_s, check=False, **options
    )
    assert ran.returncode == 0, f"docker {' '.join(arguments)}: {ran.stdout}{ran.stderr}"
    return str(ran.stdout).strip()


@functools.cache
def absent() -> str:
    """Return why there is no engine for tests; empty if there is one."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    return "" if ran.returncode == 0 else f"no Docker engine: {ran.stderr.strip()}"


def require() -> None:
    """Skip the test where there is no engine, but fail it in CI, which has to have one."""
    if why := absent():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a Docker engine: {why}")
        pytest.skip(f"{NEEDED}: {why}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes of tests from making images meanwhile: they would make the same."""
    with Path(tempfile.gettempdir(), f"{IMAGES}-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def base_image() -> str:
    """Return the name of a plain Debian image, made if it is not there."""
    require()
    with _alone():
        return _base_image()


def _base_image() -> str:
    base = _run("sh", str(ROOT / "runtimes" / "base-image.sh"))
    if base.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(f"{NEEDED}, and a base image: {base.stderr}")
    assert base.returncode == 0, base.stderr
    return base.stdout.strip()


def python_image() -> str:
    """Return the image of the python runtime, made if it is not there."""
    return runtime_image("python")


@functools.cache
def runtime_image(name: str) -> str:
    """Return the image of one of the runtimes in runtimes/, made if it is not there."""
    base = base_image()
    with _alone():
        return _runtime_image(name, base)


def _runtime_image(name: str, base: str) -> str:
    given = f"BASE={base}"
    image = f"{IMAGES}/{name}"
    replaced = docker("images", "--quiet", "--no-trunc", image)
    build = ["docker", "build", "--network", "host", "--tag", image]
    built = _run(*build, "--build-arg", given, str(ROOT / "runtimes" / name))
    assert built.returncode == 0, built.stdout + built.stderr
    if replaced not in ("", docker("images", "--quiet", "--no-trunc", image)):
        # Made anew of another base: the old one goes, unless somebody uses it by another name.
        _run("docker", "image", "rm", replaced)
    return image


def image_of(name: str, *lines: str, base: str = "") -> AbstractContextManager[str]:
    """Make an image of these lines of a Dockerfile, for the block; give its name."""
    return built(name, "-", input="\n".join([f"FROM {base or base_image()}", *lines]))


@contextmanager
def built(name: str, folder: str, *arguments: str, **options: Any) -> Iterator[str]:
    """Make an image of a folder, without a network, for the block; give its name.

    ``arguments`` are those of the build, as NAME=VALUE.
    """
    tag = f"{IMAGES}/image-{name}"
    given = [word for one in arguments for word in ("--build-arg", one)]
    build = ("build", "--quiet", "--network", "none", *given, "--tag", tag, folder)
    docker(*build, limit_s=BUILD_S, **options)
    try:
        yield tag
    finally:
        docker("image", "rm", tag)


def identity() -> dict[str, str]:
    """Return an installation and a node that are this test's alone."""
    names = ("installation", "node", "boot")
    return {name: f"test-{secrets.token_hex(6)}" for name in names}


def containers(installation: str, *more: str) -> list[str]:
    """Return the ids of an installation's containers, ended ones too."""
    filters = [f"--filter=label={label}" for label in (f"skep={installation}", *more)]
    return docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()


def processes(container: str) -> set[int]:
    """Return the pids of a container's processes, as this host numbers them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if container in (entry / "cgroup").read_text():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found
