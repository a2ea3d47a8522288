"""A worker that is itself in a container: its folders are elsewhere for the engine."""

from __future__ import annotations

import json
import secrets
import sys
import sysconfig

import pytest

from miniworker.engine import default_address
from tests import engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
#: Run inside: a probe, and a sandbox that runs a call and a build.
INSIDE = """
import json, subprocess, sys
from pathlib import Path
from tests.miniworker.rig import Rig, spec, start
from wire import jobs
probing = start("probe", "--json", "--driver", "docker", "--folder", "/tmp/node",
                "--identity", sys.argv[1], stdout=subprocess.PIPE)
settings = json.loads(probing.communicate()[0])["settings"]
with Rig(settings, driver="docker") as rig:
    bundle = rig.bundle({"test.py": "print(open('made').read().strip())"})
    mini = rig.spawn()
    order = spec(runtime={"dependencies": "echo from inside >made"})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60000))
    built = mini.recv()[0]
    assert built.reason is None, built
    mini.stop()
    mini = rig.spawn()
    ready = mini.specialise(order, bundle)
    assert isinstance(ready, jobs.Ready), ready
    result = mini.call()[1].decode().strip()
    mini.stop()
print(json.dumps({"result": result, "mounts": json.loads(settings["mounts"])}))
"""


def test_it_finds_its_own_mounts_and_names_their_sources() -> None:
    image, whose = engine.python_image(), engine.identity()
    version = engine.docker(
        "run", "--rm", "--network", "none", image, "python3", "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
    )  # fmt: skip
    if version != "{}.{}".format(*sys.version_info[:2]):
        pytest.skip(f"the packages of this Python do not fit the image's {version}")
    socket = default_address().removeprefix("unix://")
    volume = f"skep-test-{secrets.token_hex(4)}"
    packages = sysconfig.get_path("platlib")
    engine.docker("volume", "create", "--label", "skep=test", volume)
    try:
        printed = engine.docker(
            "run", "--rm", "--user", "0", "--network", "none", "--label", "skep=test",
            "--volume", f"{socket}:/var/run/docker.sock", "--volume", f"{volume}:/tmp",
            "--volume", f"{engine.ROOT}:/code:ro", "--volume", f"{packages}:/packages:ro",
            "--env", "PYTHONPATH=/code:/packages", "--workdir", "/code",
            image, "python3", "-c", INSIDE, json.dumps(whose), limit_s=120,
        )  # fmt: skip
        said = json.loads(printed.splitlines()[-1])
        assert said["result"] == "from inside"
        assert said["mounts"]["/tmp"].endswith(f"/volumes/{volume}/_data")
        assert engine.containers(whose["installation"]) == []
    finally:
        engine.docker("volume", "rm", volume)
