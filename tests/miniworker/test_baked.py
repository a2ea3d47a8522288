"""Sandboxes of an image that has the code in it, however files and words get in."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests import engine
from tests.miniworker.rig import Rig, open_folder, probe, spec
from wire import baked, jobs
from wire.models import Fault, Status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
SOURCE = 'import os; print(os.getcwd(), os.path.realpath("test.py"))'


@pytest.fixture(scope="module", params=["container", "container-stdio"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(open_folder(tmp_path_factory.mktemp("docker")), request.param)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image with the code of ``spec`` where baking puts it."""
    tag = f"skep-test/baked-{secrets.token_hex(4)}"
    script = f"mkdir -p {baked.BUNDLE} && echo '{SOURCE}' >{baked.BUNDLE}/test.py"
    lines = [
        f"FROM {engine.PYTHON_IMAGE}",
        "USER 0",
        f"RUN {msgspec.json.encode(['sh', '-c', script]).decode()}",
        "USER 65532:65532",
        f'LABEL {baked.LABEL}="{baked.digest(spec())}"',
    ]
    build = ["docker", "build", "--quiet", "--network", "none", "--tag", tag, "-"]
    text = "\n".join(lines)
    done = subprocess.run(build, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    yield tag
    engine.docker("image", "rm", tag)


def test_it_runs_what_is_in_the_image_and_no_other_functions(rig: Rig, image: str) -> None:
    order = spec(baked_image=image, preload="image")
    mini = rig.spawn()
    ready = mini.specialise(order, baked.BUNDLE)
    assert isinstance(ready, jobs.Ready), ready
    outcome, result, _, stderr = mini.call()
    assert outcome.status is Status.DONE, (outcome, stderr)
    assert result.decode().split() == ["/ws", f"{baked.BUNDLE}/test.py"]
    mini.stop()
    # Of another runtime the same image is not what was baked.
    other = msgspec.structs.replace(order.runtime, dependencies="true")
    mini = rig.spawn()
    broken = mini.specialise(msgspec.structs.replace(order, runtime=other), baked.BUNDLE)
    assert isinstance(broken, jobs.Broken), broken
    assert (broken.fault, broken.reason.code) == (Fault.NONE, "stale_image")
