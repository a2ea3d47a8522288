"""A flood of one function through the front door: another's calls have their share of slots."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.e2e.harness import RUNTIME, up
from tests.packing import tar_gz

pytestmark = pytest.mark.timeout(120)

SLEEPS = "import time\n\n\ndef main(n):\n    time.sleep(0.05)\n    return n\n"
FLOOD, OTHERS = 40, 6


def test_a_flood_waits_beside_others_and_a_limit_holds(tmp_path: Path) -> None:
    with up(tmp_path / "d", "--slots", "2", "--sandbox", "process") as hive:
        with hive.client() as client:
            client.register_runtime({**RUNTIME, "name": "fair", "dependencies": ""})
            package = tar_gz({"work.py": SLEEPS})
            for name in ("flood", "other"):
                client.register_function("fair", name, package, entry="work.main")
            client.register_function(
                "fair", "one", package, entry="work.main", maxConcurrency=1
            )
            asked = ["flood"] * FLOOD + ["other"] * OTHERS + ["one"] * OTHERS
            calls = sorted(called_at_once(hive.url, asked), key=_started)
            assert [call["status"] for call in calls] == ["DONE"] * len(asked)
            order = [call for call in calls if call["funcName"] != "one"]
            limited = [call for call in calls if call["funcName"] == "one"]
        # Whoever came last has run before most of what came first.
        last = max(at for at, call in enumerate(order) if call["funcName"] == "other")
        assert last < len(order) * 3 // 4
        for before, after in itertools.pairwise(limited):
            assert str(before["finishedAt"]) <= str(after["startedAt"])
        assert hive.end() == 0


def called_at_once(url: str, names: list[str]) -> list[dict[str, Any]]:
    """Ask for all in one request: none has ended before the last is asked for."""
    lines = [json.dumps({"funcName": name, "params": {"n": 0}}) for name in names]
    request = Request(
        f"{url}/invokeFunctions?wait=60",
        "\n".join(lines).encode(),
        {"Content-Type": "application/x-ndjson"},
    )
    with urlopen(request, timeout=70) as answer:
        return [json.loads(line)["call"] for line in answer]


def _started(call: dict[str, Any]) -> str:
    return str(call["startedAt"])
