"""A worker that is itself in a container: the engine has its folders elsewhere, or nowhere."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from miniworker.engine import default_address
from tests import engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
PYTHON = "{}.{}".format(*sys.version_info[:2])
#: Run inside: all of skep, with a function that has dependencies, and one that is an image.
INSIDE = """
import json, sys, tarfile
from pathlib import Path
from tests.e2e.harness import up

data, image = Path(sys.argv[1]), sys.argv[2]
(data / "code").mkdir(parents=True)
(data / "code" / "test.py").write_text("print(open('made').read().strip())")
with tarfile.open(data / "code.tar.gz", "w:gz") as package:
    package.add(data / "code" / "test.py", "test.py")
runtime = {"name": "r", "image": image, "path": "/ws", "run": "python3 test.py",
           "agent": "python", "dependencies": "echo from inside >made"}
with up(data / "d", "--sandbox", "docker", "--preload", sys.argv[3]) as running:
    with running.client() as client:
        client.register_runtime(runtime)
        client.register_function("r", "f", data / "code.tar.gz")
        calls = [client.submit_call("f", {}, wait=60) for _ in range(2)]
        client.register_image("g", image)
        calls.append(client.submit_call("g", ["echo", "as an image"], wait=60))
        (worker,) = client.workers()
    installation = (data / "d" / "installation").read_text()
    assert running.end() == 0
print(json.dumps({"results": [call["result"] for call in calls],
                  "reasons": [call["reason"] for call in calls],
                  "isolation": worker["isolation"], "installation": installation}))
"""


def run_inside(data: str, preload: str, *options: str) -> Any:
    """Run skep in a container that shares the engine's socket, its own code, and no more."""
    image = engine.python_image()
    version = engine.docker(
        "run", "--rm", "--network", "none", image, "python3", "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
    )  # fmt: skip
    if version != PYTHON:
        pytest.skip(f"the packages of this Python do not fit the image's {version}")
    socket = default_address().removeprefix("unix://")
    packages = next(path for path in sys.path if Path(path, "zmq").is_dir())
    printed = engine.docker(
        "run", "--rm", "--user", "0", "--network", "none", "--label", "skep=test",
        "--volume", f"{socket}:/var/run/docker.sock", "--volume", f"{engine.ROOT}:/code:ro",
        "--volume", f"{packages}:/usr/local/lib/python{version}/dist-packages:ro",
        "--env", "PYTHONPATH=/code", "--workdir", "/code", *options,
        image, "python3", "-c", INSIDE, data, image, preload, limit_s=200,
    )  # fmt: skip
    said = json.loads(printed.splitlines()[-1])
    assert said["reasons"] == [None] * 3
    assert said["results"] == ["from inside", "from inside", "as an image"]
    assert engine.containers(said["installation"]) == []
    return said


def test_with_its_data_in_a_volume_it_names_the_volumes_folder() -> None:
    volume = f"skep-test-{secrets.token_hex(4)}"
    engine.docker("volume", "create", "--label", "skep=test", volume)
    try:
        said = run_inside("/data/here", "none", "--volume", f"{volume}:/data")
        assert "reached by volumes" in said["isolation"]
        assert "not by mounts: this worker's --data is in a volume" in said["isolation"]
    finally:
        engine.docker("volume", "rm", volume)


def test_with_nothing_but_the_engines_socket_it_speaks_by_stdio() -> None:
    before = engine.docker("volume", "ls", "--quiet").split()
    said = run_inside("/home/here", "runtime")
    assert "reached by stdio" in said["isolation"]
    assert "does not see this worker's files" in said["isolation"]
    mine = set(engine.docker("volume", "ls", "--quiet").split()) - set(before)
    assert not mine
