"""The same faults twice leave an installation as large as once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.leaks import IDLE_S, twice
from tests.faults.scene import scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_second_run_leaves_nothing_more(tmp_path: Path) -> None:
    with scene(tmp_path / "data", 1, "--idle", str(IDLE_S)) as made:
        print(json.dumps(twice(made)))
