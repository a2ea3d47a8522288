"""Wires that delay, lose and are cut, under load; and what people see of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cli import snapshots
from cli.frame import frame
from tests.conftest import eventually
from tests.faults.scene import Scene, scene
from tests.faults.test_single import suffer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_every_call_ends_once_whatever_is_lost_or_late(tmp_path: Path) -> None:
    suffer(
        tmp_path / "data",
        [
            "delay db", "lose node", "lose db", "lose pub", "cut db",
            "cut pub", "cut node", "delay node beyond the limit",
        ],
    )  # fmt: skip


def on_top(made: Scene, name: str) -> str:
    """Return the line of a node in ``skep top``."""
    with made.hive.client() as client:
        drawn = frame(snapshots.take(client), time.time(), 120)
    lines = ("".join(text for text, _ in line) for line in drawn)
    return next(line for line in lines if line.startswith(name))


def test_silence_and_absence_are_seen(tmp_path: Path) -> None:
    with scene(tmp_path / "data", 1) as made:
        made.wires.hold("node2")
        eventually(lambda: made.worker_shown("node2")["silent"])
        eventually(lambda: "silent" in on_top(made, "node2"))
        eventually(lambda: made.worker_shown("node2")["state"] == "gone")
        made.wires.release("node2")
        eventually(lambda: made.worker_shown("node2")["state"] == "up")
        assert not made.worker_shown("node2")["silent"]
