"""Simulated workers speak the protocol: a real api gives them calls and believes their ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from benchmarks import memory, plane
from benchmarks.load import measure

WORKERS = 3


def test_an_api_gives_calls_to_simulated_workers() -> None:
    with plane.running("memory") as product, plane.simulated(product, WORKERS):
        measure(replace(product.invocation("echo"), clients=8, calls=60))
        calls = product.client.calls(limit=100)
        assert Counter(call["status"] for call in calls) == {"DONE": 60}
        assert all(call["result"] for call in calls)
        names = {worker["name"] for worker in product.client.workers()}
        assert names == {f"simulated{number}" for number in range(WORKERS)}
        assert memory.room_mb(product.folder, "api") > 1
        assert memory.control_mb(product.folder) > memory.room_mb(product.folder, "api")


def test_workers_without_slots_leave_calls_in_the_queue() -> None:
    with plane.running("memory") as product, plane.simulated(product, 1, slots=0):
        load = product.batch("echo", 20)
        load = replace(load, url=load.url.partition("?")[0], every=b'"status":202')
        measure(replace(load, calls=1))
        waiting = product.client.calls(status="PENDING", limit=100)
        assert len(waiting) == 20
