"""Whose the containers of a node are: said by its settings, else one for a data folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worker.folder import NodeFolder


def installation(data: Path, name: str, told: str = "") -> str:
    folder = NodeFolder(data, name, "boot1234", told)
    folder.open()
    try:
        return folder.installation
    finally:
        folder.close()


def test_nodes_of_one_data_folder_are_of_one_installation(tmp_path: Path) -> None:
    one = installation(tmp_path, "one")
    assert one
    assert installation(tmp_path, "two") == one
    assert installation(tmp_path / "elsewhere", "one") != one


def test_nodes_with_folders_of_their_own_can_be_told_one(tmp_path: Path) -> None:
    made = installation(tmp_path / "b", "two")
    assert installation(tmp_path / "a", "one", "compose") == "compose"
    assert installation(tmp_path / "b", "two", "compose") == "compose"
    # What was made before is kept for the day when nothing is told.
    assert installation(tmp_path / "b", "two") == made


def test_an_installation_that_no_label_can_hold_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "worker", "--name", "n", "--api", "tcp://127.0.0.1:1",
         "--data", tmp_path, "--installation", "a b"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "an installation cannot be called 'a b'" in ended.stderr
    assert "letters, digits" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_was_killed_over_goes_with_its_next_life(tmp_path: Path) -> None:
    root = tmp_path / "nodes" / "one"
    left = [
        root / "proof-1" / "sandbox" / "sock", root / "docker" / "proof-2",
        root / "probe-3", root / "docker" / "half-4", root / "tools" / "half-5",
    ]  # fmt: skip
    for folder in (*left, root / "docker" / "agents"):
        folder.mkdir(parents=True)
    installation(tmp_path, "one")
    names = {"id", "lock", "packages", "bundles", "whole", "docker", "tools"}
    assert {path.name for path in root.iterdir()} == names
    assert [path.name for path in (root / "docker").iterdir()] == ["agents"]
    assert list((root / "tools").iterdir()) == []
