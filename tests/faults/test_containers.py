"""The same where sandboxes are containers, of an engine that dies and freezes too."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from tests import engine
from tests.faults.containers import docked
from tests.faults.plan import ENGINE_FAULTS, strike
from tests.faults.reckoning import reckon
from tests.faults.scene import scene

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(500)]


def test_every_call_ends_once_whatever_becomes_of_containers_and_engine() -> None:
    engine.require()
    # Paths of an engine's sockets are short, and its sandboxes look into its folder.
    with tempfile.TemporaryDirectory(prefix="skep-dock-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with docked(Path(folder)) as dock:
            data = Path(folder) / "data"
            with scene(data, 1, "--sandbox", "docker", dock=dock) as made:
                with made.load.running():
                    made.calm()
                    for name in (*ENGINE_FAULTS, "kill miniworker", "kill worker"):
                        strike(made, name)
                        made.calm()
                told = reckon(made)
                print(json.dumps(told, indent=2))
                assert told["dispatched again"] > 0
            dock.assert_empty()
