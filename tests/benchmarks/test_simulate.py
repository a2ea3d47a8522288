"""The simulation of policies: the product's own deciders, and the same figures for one seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api.chooser import Chooser
from api.dispatch import Dispatch
from benchmarks.simulate import Setting, Simulation, quick
from benchmarks.simulated_load import Load, arrivals
from wire.models import PolicyName
from worker.broker import Broker
from worker.keep_alive import Worths
from worker.pool import Pool

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
SMALL = quick(Setting())


def test_one_seed_is_one_run_and_another_is_another() -> None:
    first = Simulation(SMALL).run()
    assert first == Simulation(SMALL).run()
    other = replace(SMALL, load=replace(SMALL.load, seed=2))
    assert first != Simulation(other).run()
    assert first.calls == 250
    assert 0 < first.cold < 1


def test_what_decides_is_the_product() -> None:
    """Every decision of a call is made in a module of a room: seen by what is executed."""
    ran: set[str] = set()

    def profile(frame: object, event: str, _: object) -> None:
        if event == "call":
            code = frame.f_code  # type: ignore[attr-defined]
            ran.add(f"{frame.f_globals['__name__']}:{code.co_name}")  # type: ignore[attr-defined]

    made = Simulation(replace(SMALL, keep_alive="greedy-dual"))
    sys.setprofile(profile)
    try:
        made.run()
    finally:
        sys.setprofile(None)
    decided = {
        (Dispatch, "accept"), (Dispatch, "result"), (Chooser, "choose"), (Broker, "prepare"),
        (Broker, "done"), (Pool, "make"), (Pool, "_evict"), (Worths, "of"),
    }  # fmt: skip
    assert {f"{cls.__module__}:{name}" for cls, name in decided} <= ran
    for module in ("api.policy", "api.ledger", "api.placing", "worker.credits"):
        assert any(one.startswith(f"{module}:") for one in ran), module
    own = {one for one in ran if one.startswith("benchmarks.")}
    # What it adds is a load, clocks and lines.
    assert not any("choose" in one or "evict" in one for one in own)


@pytest.mark.parametrize("policy", ["round-robin", "random"])
def test_a_policy_that_looks_at_nothing_makes_more_cold_starts(
    policy: PolicyName,
) -> None:
    best = Simulation(SMALL).run()
    other = Simulation(replace(SMALL, placement=policy)).run()
    assert other.cold > best.cold
    assert other.imbalance < best.imbalance


def test_what_is_kept_until_there_is_no_room_is_colder_never() -> None:
    idle = Simulation(replace(SMALL, idle_s=2.0)).run()
    kept = Simulation(replace(SMALL, keep_alive="lru")).run()
    assert kept.cold < idle.cold
    assert kept.sandboxes > idle.sandboxes


def test_the_load_is_what_it_says() -> None:
    load = Load(functions=50, calls=5000, seconds=100.0)
    calls = list(arrivals(load))
    assert len(calls) == load.calls
    counts: dict[str, int] = {}
    for one in calls:
        counts[one.key] = counts.get(one.key, 0) + 1
    ranked = sorted(counts.values(), reverse=True)
    assert ranked[0] > 5 * ranked[len(ranked) // 2]
    # From noon to noon: the night is in the middle.
    night = sum(40 <= one.at < 60 for one in calls)
    noon = sum(one.at < 10 or one.at >= 90 for one in calls)
    assert noon > 2 * night


def test_the_command_prints_a_line_for_each_policy_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-P", "-m", "benchmarks.simulate", "--quick"]
    command += ["--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    lines = done.stdout.splitlines()
    assert [line.split()[1:3] for line in lines[1:7]] == [
        ["warm-first", "idle"], ["round-robin", "idle"], ["least-loaded", "idle"],
        ["random", "idle"], ["warm-first", "lru"], ["warm-first", "greedy-dual"],
    ]  # fmt: skip
    told = json.loads((tmp_path / "simulate.json").read_text())
    assert len(told["figures"]) == 9
    assert (tmp_path / "simulate.png").stat().st_size > 10_000
