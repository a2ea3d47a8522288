"""Many calls on few slots: served in order, never more at once, sandboxes kept and let go."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from skep import Call
from tests.conftest import children, eventually
from tests.e2e.harness import RUNTIME, up
from tests.e2e.test_scripts import package

SLOTS = 3
CALLS = 40
SCRIPT = "import json, sys, time; time.sleep(0.05); print(json.load(sys.stdin))"


def test_a_burst_is_served_in_order_and_never_over_the_slots(tmp_path: Path) -> None:
    before = children()
    options = ("--slots", str(SLOTS), "--idle", "1")
    with up(tmp_path / "data", *options) as hive, hive.client() as client:
        client.register_runtime({**RUNTIME, "name": "bare", "dependencies": ""})
        client.register_function("bare", "echo", package(SCRIPT))
        accepted = [client.submit_call("echo", number) for number in range(CALLS)]
        calls = [client.wait_call(call, 50) for call in accepted]
        assert [call["result"] for call in calls] == [str(n) for n in range(CALLS)]
        # Each record rounds its own clock's offset, so neighbours may differ by one ms.
        assert all(a <= b + 1 for a, b in pairwise(dispatched_ms(calls))), calls
        assert 1 < most_at_once(calls) <= SLOTS
        assert len({call["miniworker"] for call in calls}) <= SLOTS
        assert [call["start"] for call in calls].count("cold") <= SLOTS
        eventually(lambda: client.workers()[0]["warm"] == {}, what="idle sandboxes leave")
        eventually(lambda: not agents(before), what="and their processes with them")
        assert hive.end() == 0


def dispatched_ms(calls: list[Call]) -> list[int]:
    moments = [datetime.fromisoformat(call["dispatchedAt"] or "") for call in calls]
    return [round(moment.timestamp() * 1000) for moment in moments]


def most_at_once(calls: list[Call]) -> int:
    """Return the largest number of calls that ran at one moment, by their records."""
    begins = [(call["startedAt"] or "", 1) for call in calls]
    ends = [(call["finishedAt"] or "", -1) for call in calls]
    most = now = 0
    for _, change in sorted(begins + ends):
        now += change
        most = max(most, now)
    return most


def agents(before: set[int]) -> list[int]:
    """Return the processes that are agents or scripts."""
    found = []
    for pid in children() - before:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"agents/python.py" in command:
            found.append(pid)
    return found
