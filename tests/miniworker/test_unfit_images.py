"""Images that no call can run in: the reason says why, and nothing of them is left."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests import engine
from tests.miniworker.rig import Rig, image_spec, probe, spec
from wire import jobs
from wire.models import Fault, Status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
MACHINES = {"amd64": 62, "arm64": 183}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(tmp_path_factory.mktemp("docker"), "container")


MADE: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def images() -> Iterator[None]:
    """Remove what the tests made."""
    yield
    if MADE:
        engine.docker("image", "rm", *MADE)


def packed(files: dict[str, bytes]) -> bytes:
    """Return a tar of these programs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.size = 0o755, len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def loaded(name: str, architecture: str, programs: dict[str, bytes]) -> str:
    """Make an image that says it is for this architecture, of these alone; return its name."""
    tag, layer = f"skep-test/unfit-{name}:latest", packed(programs)
    layers = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    config = json.dumps({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers},
    }).encode()  # fmt: skip
    file = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": file, "RepoTags": [tag], "Layers": ["layer.tar"]}]
    parts = {"manifest.json": json.dumps(manifest).encode(), file: config, "layer.tar": layer}
    command = ["docker", "load", "--quiet"]
    subprocess.run(command, input=packed(parts), capture_output=True, check=True)
    MADE.add(tag)
    return tag


def other(rig: Rig) -> str:
    """Return an architecture that the engine's is not."""
    return "arm64" if rig.settings["architecture"] != "arm64" else "amd64"


def program_of(architecture: str) -> bytes:
    """Return a program of 64 bits of this architecture, as far as a kernel reads of it."""
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    rest = (2, MACHINES[architecture], 1, 0x400000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return identity + struct.pack("<HHIQQQIHHHHHH", *rest) + bytes(4096)


def refused(rig: Rig, order: Any, bundle: Any) -> jobs.Broken:
    """Return why there is no sandbox; check that its miniworker left in order."""
    mini = rig.spawn()
    answer = mini.specialise(order, bundle)
    assert isinstance(answer, jobs.Broken), answer
    assert rig.exit_of(mini.name).status == 0
    return answer


def test_an_image_of_another_architecture(rig: Rig) -> None:
    theirs = other(rig)
    tag = loaded("platform", theirs, {})
    for order, bundle in (
        (spec(runtime={"image": tag}), rig.bundle({"test.py": ""})),
        (image_spec(tag), "-"),
    ):
        answer = refused(rig, order, bundle)
        assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
        assert f"is for {theirs}, and this engine runs" in answer.reason.message


def test_an_image_that_says_ours_and_has_programs_of_another(rig: Rig) -> None:
    program, ours = program_of(other(rig)), rig.settings["architecture"]
    tag = loaded("programs", ours, {"usr/bin/python3": program, "start": program})
    answer = refused(rig, spec(runtime={"image": tag}), rig.bundle({"test.py": ""}))
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
    assert "another architecture" in answer.reason.message
    mini = rig.image(tag)
    outcome, *_ = mini.call(b'["/start"]')
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None
    assert outcome.reason.code == "command_not_found"
    assert "no program for this machine: exec /start" in outcome.reason.message
    mini.stop()


def test_an_image_without_a_shell(rig: Rig) -> None:
    text = f"FROM {engine.python_image()}\nUSER 0:0\nRUN rm /bin/sh /bin/bash\n"
    tag = "skep-test/unfit-shell"
    engine.docker("build", "--quiet", "--network", "none", "--tag", tag, "-", input=text)
    MADE.add(tag)
    bundle = rig.bundle({"test.py": "print(6 * 7)"})
    # What needs none runs.
    mini = rig.spawn()
    assert isinstance(mini.specialise(spec(runtime={"image": tag}), bundle), jobs.Ready)
    assert mini.call()[1] == b"42\n"
    mini.stop()
    assert rig.image(tag).call(b'["python3", "-c", "print(7)"]')[1] == b"7\n"
    # A line of shell, an installation, and an agent that is a shell say what they lack.
    mini = rig.spawn()
    line = spec(runtime={"image": tag, "run": "cat | cat"})
    assert isinstance(mini.specialise(line, bundle), jobs.Ready)
    outcome, *_ = mini.call()
    assert outcome.reason is not None
    assert outcome.reason.code == "command_not_found"
    assert "'/bin/sh' cannot be run: No such file" in outcome.reason.message
    mini.stop()
    mini = rig.spawn()
    order = spec(runtime={"image": tag, "dependencies": "pip3 --version"})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60_000))
    built, _ = mini.built()
    assert built.reason is not None
    assert (built.fault, built.reason.code) == (Fault.FUNCTION, "install_failed")
    assert "`pip3 --version`: the command '/bin/sh' cannot be run" in built.reason.message
    mini.stop()
    answer = refused(rig, spec(runtime={"image": tag, "agent": "shell", "run": "cat"}), bundle)
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "command_not_found")
    assert "exec /skep/agents/shell: no such file or directory" in answer.reason.message
