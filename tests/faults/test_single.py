"""One fault after the other under steady load: nothing that was promised is broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import children
from tests.e2e.harness import assert_gone
from tests.faults.plan import strike
from tests.faults.reckoning import left_behind, reckon
from tests.faults.scene import scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def suffer(data: Path, names: Sequence[str], *options: str) -> None:
    """Do all of these to one installation, then reckon."""
    before = children()
    with scene(data, 1, *options) as made:
        with made.load.running():
            made.calm()
            for name in names:
                strike(made, name)
                made.calm()
        told = reckon(made)
        print(json.dumps(told, indent=2))
        assert told["faults"] == dict.fromkeys(sorted(names), 1)
        # Something came of it: else nothing was proved.
        assert told["dispatched again"] > 0
        assert told["calls"] > 20 * len(names)
    assert_gone(data, before)
    assert left_behind(data) == []


def test_every_call_ends_once_whatever_dies_or_freezes(tmp_path: Path) -> None:
    suffer(
        tmp_path / "data",
        [
            "kill miniworker", "kill sandbox", "kill zygote", "kill worker", "kill dbnode",
            "kill api", "restart miniworker", "restart sandbox", "restart zygote",
            "restart worker", "restart dbnode", "restart api", "starve all",
            "freeze worker", "freeze api", "freeze dbnode",
        ],
        "--unfinished", "fail",
    )  # fmt: skip
