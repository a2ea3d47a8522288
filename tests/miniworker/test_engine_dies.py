"""An engine that dies or is full: on one of the test's own."""

from __future__ import annotations

import errno
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.bases import NoImage
from cli.images import Images
from tests import engine
from tests.conftest import eventually
from tests.miniworker.private_engine import PrivateEngine
from tests.miniworker.rig import Mini, Rig, probe, spec
from wire import jobs
from wire.models import Fault, Status

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400)]
MIB = 1 << 20


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: sockets of an engine are below it."""
    with tempfile.TemporaryDirectory(prefix="skep-engine-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(autouse=True)
def host_is_untouched() -> Iterator[None]:
    """What an engine of a test's own could take from the user's."""
    before = {path.name for path in Path("/sys/class/net").iterdir() if path.name == "docker0"}
    yield
    after = {path.name for path in Path("/sys/class/net").iterdir() if path.name == "docker0"}
    assert after == before


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(tmp_path_factory.mktemp("docker"), "container")


def on(private: PrivateEngine, found: dict[str, Any]) -> Rig:
    return Rig(found["settings"] | {"engine": private.address}, driver="docker")


def ready(rig: Rig, source: str) -> Mini:
    mini = rig.spawn()
    answer = mini.specialise(spec(), rig.bundle({"test.py": source}))
    assert isinstance(answer, jobs.Ready), answer
    return mini


def test_an_engine_that_dies_takes_no_call_with_it(found: dict[str, Any], place: Path) -> None:
    source = "import json, sys, time; time.sleep(json.load(sys.stdin).get('s', 0)); print(7)"
    with PrivateEngine(place / "e") as private:
        private.load(engine.PYTHON_IMAGE)
        with on(private, found) as rig:
            mini = ready(rig, source)
            mini.job(1, b'{"s": 1}')
            private.kill()
            assert mini.done()[:2][1] == b"7\n"
            # Warm, it serves on; another one cannot be made, and that is this node's fault.
            assert mini.call()[1] == b"7\n"
            broken = rig.spawn().specialise(spec(), rig.bundle({}))
            assert isinstance(broken, jobs.Broken)
            assert (broken.fault, broken.reason.code) == (Fault.NODE, "no_sandbox")
            # An engine that comes back ends what it finds running. The call is lost, not hung.
            mini.job(2, b'{"s": 600}', timeout_ms=300_000)
            private.start()
            outcome = mini.done()[0]
            assert (outcome.status, outcome.reason and outcome.reason.code) == (
                Status.LOST,
                "sandbox_lost",
            )
            assert ready(rig, source).call()[1] == b"7\n"
        eventually(lambda: private.docker("ps", "--all", "--quiet") == "")


def test_a_full_disk_of_the_engine_is_the_nodes_fault(
    found: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = PrivateEngine(place / "e")
    size = json.loads(engine.docker("image", "inspect", engine.PYTHON_IMAGE))[0]["Size"]
    options = f"size={3 * size + 64 * MIB}"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(private.data)], check=True
    )
    with private, on(private, found) as rig:
        private.load(engine.PYTHON_IMAGE)
        fill(private.data / "filling")
        broken = rig.spawn().specialise(spec(), rig.bundle({}))
        assert isinstance(broken, jobs.Broken), broken
        assert (broken.fault, broken.reason.code) == (Fault.NODE, "no_space")
        monkeypatch.setenv("DOCKER_HOST", private.address)
        nothing_is_built(place / "runtime")
        assert private.docker("ps", "--all", "--quiet") == ""
        (private.data / "filling").unlink()
        assert ready(rig, "print(1)").call()[1] == b"1\n"


def test_a_disk_that_a_build_fills_is_the_nodes_fault(
    found: dict[str, Any], place: Path
) -> None:
    with Rig(found["settings"], driver="docker") as rig:
        bundle = place / "bundle"
        bundle.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "none", str(bundle)], check=True
        )
        try:
            mini = rig.spawn()
            order = spec(runtime={"dependencies": "head -c 2000000 /dev/zero >big"})
            mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60_000))
            built, _ = mini.built()
            assert built.reason is not None
            assert (built.fault, built.reason.code) == (Fault.NODE, "no_space"), built
            mini.stop()
        finally:
            subprocess.run(["umount", str(bundle)], check=True)
        rig.check()


def nothing_is_built(folder: Path) -> None:
    """Make an image as ``skep runtime build`` does; check that it says what is full."""
    folder.mkdir()
    step = "RUN head -c 100000000 /dev/zero >/tmp/large\n"
    (folder / "Dockerfile").write_text(f"FROM {engine.PYTHON_IMAGE}\n{step}")
    with closing(Images()) as images, pytest.raises(NoImage, match="no space left") as caught:
        list(images.build(folder, "skep-test/none:1", {}, None))
    assert "docker system df" in caught.value.hint


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for piece in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError as error:
                assert error.errno == errno.ENOSPC
