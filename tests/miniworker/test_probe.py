"""The probe: what it promises is what it saw working, wherever the folder is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.miniworker.rig import Rig, probe, start
from wire.models import Status


def test_it_takes_the_strongest_and_says_what_that_means(strongest: dict[str, Any]) -> None:
    assert strongest["driver"] == "process"
    assert strongest["isolation"]
    assert all(isinstance(value, str) for value in strongest["settings"].values())
    assert strongest["settings"]["level"] == strongest["level"]
    assert ("trusted code only" in strongest["isolation"]) == (strongest["level"] == "rlimits")


def test_the_tools_are_made_once(tmp_path: Path) -> None:
    first = probe(tmp_path, "rlimits")["settings"]["tools"]
    made = Path(first).stat().st_mtime_ns
    assert probe(tmp_path, "rlimits")["settings"]["tools"] == first
    assert Path(first).stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == ["tools"]
    assert [path.name for path in (tmp_path / "tools").iterdir()] == [Path(first).name]
    version = subprocess.run(
        [f"{first}/bin/pip3", "--version"], capture_output=True, check=True
    )
    assert version.stdout.startswith(b"pip ")


def test_a_folder_that_is_deep_and_private_will_do() -> None:
    deep = "/".join(["a-rather-long-name-of-a-folder"] * 6)
    with Rig(folder=deep) as rig:
        for folder in (rig.cwd, *rig.cwd.parents[:6]):
            folder.chmod(0o700)
        rig.settings = probe(rig.cwd, "auto")["settings"]
        mini = rig.script("import os; print(os.getcwd() != '')")
        outcome, result, _, stderr = mini.call()
        assert (outcome.status, result) == (Status.DONE, b"True\n"), stderr
        mini.stop()


def test_a_level_that_is_not_to_be_had_is_an_error_with_a_hint(tmp_path: Path) -> None:
    command = ("probe", "--folder", str(tmp_path), "--level", "bubblewrap")
    process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": ""})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert b"bubblewrap" in err
    assert b"SKEP_ISOLATION=rlimits" in err


def test_the_level_can_be_said_in_the_environment(tmp_path: Path) -> None:
    env = {"SKEP_ISOLATION": "rlimits"}
    command = ("probe", "--json", "--folder", str(tmp_path))
    process = start(*command, stdout=subprocess.PIPE, env=env)
    out, _ = process.communicate(timeout=60)
    assert b'"level": "rlimits"' in out
