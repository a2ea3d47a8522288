"""What an agent clears away between calls is its sandbox's own, whatever a variable names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.miniworker.rig import Rig, open_folder, probe, spec
from wire import jobs
from wire.models import Status

INTERPRETERS = {"python": "python3", "node": "node", "php": "php", "shell": "bash"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Where nothing hides the host's folders from a sandbox."""
    found = probe(open_folder(tmp_path_factory.mktemp("open")), "rlimits")
    with Rig(found["settings"]) as rig:
        yield rig


@pytest.mark.parametrize("agent", INTERPRETERS)
def test_a_folder_that_the_function_names_is_left_alone(
    rig: Rig, tmp_path: Path, agent: str
) -> None:
    if shutil.which(INTERPRETERS[agent]) is None:
        pytest.skip(f"needs {INTERPRETERS[agent]}")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("mine")
    runtime = {"agent": agent, "env": {"TMPDIR": str(theirs)}}
    mini = rig.spawn()
    # Through sh, so that each call is a process that the agent clears up after.
    ready = mini.specialise(spec(runtime=runtime, run='echo "$TMPDIR" | cat'), rig.bundle({}))
    assert isinstance(ready, jobs.Ready), ready
    for params in (b"{}", b'"%s"' % (b"x" * 70_000)):
        outcome, result, *_ = mini.call(params)
        assert (outcome.status, result.strip()) == (Status.DONE, str(theirs).encode())
    mini.stop()
    assert (theirs / "letter.txt").read_text() == "mine"
    assert [path.name for path in theirs.iterdir()] == ["letter.txt"]
