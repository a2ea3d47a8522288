"""A flood of one function through the front door: another's calls have their share of slots."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tests.e2e.harness import RUNTIME, up
from tests.packing import tar_gz

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
            flood = [client.submit("flood", n=n) for n in range(FLOOD)]
            others = [client.submit("other", n=n) for n in range(OTHERS)]
            ones = [client.submit("one", n=n) for n in range(OTHERS)]
            for each in (*others, *ones, *flood):
                each.result(timeout=40)
            order: list[dict[str, Any]] = sorted(
                (dict(each.record) for each in (*flood, *others)), key=_started
            )
            limited: list[dict[str, Any]] = sorted(
                (dict(each.record) for each in ones), key=_started
            )
        # Whoever came last has run before most of what came first.
        last = max(at for at, call in enumerate(order) if call["funcName"] == "other")
        assert last < len(order) * 3 // 4
        for before, after in itertools.pairwise(limited):
            assert str(before["finishedAt"]) <= str(after["startedAt"])
        assert hive.end() == 0


def _started(call: dict[str, Any]) -> str:
    return str(call["startedAt"])
