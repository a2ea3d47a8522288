"""What placement and keep-alive do to a thousand workers: ``python -m benchmarks.simulate``.

The product's own deciders of api and worker in virtual time: calls of functions of which few
are called often and most hardly ever (Zipf), by day and night, in bursts. One seed gives the
same calls to every policy, and the same figures in every run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from api.chooser import Chooser
from api.live import Live
from benchmarks.simulated_figures import Figures
from benchmarks.simulated_load import Arrival, Load, LoadScript, arrivals
from tests.virtual.api import WALL_MS, Api
from tests.virtual.node import Node
from tests.virtual.store import Store
from tests.virtual.timeline import Timeline
from wire.codec import Message
from wire.models import POLICIES, PolicyName, Warmth
from worker.keep_alive import KEEP_ALIVES, KeepAlive
from worker.pool import PoolSettings

#: From socket to socket.
HOP_S: Final = 0.0003
#: How often a worker looks whether something has to leave; the product does ten times a second.
TICK_S: Final = 2.0
RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run: a load, and what decides about it."""

    load: Load = field(default_factory=Load)
    workers: int = 1000
    slots: int = 2
    #: Sandboxes that a node holds at most, running ones included.
    max_warm: int = 4
    #: How long one may idle, where that is what ends it.
    idle_s: float = 10.0
    placement: PolicyName = "warm-first"
    keep_alive: KeepAlive = "idle"


class Simulation:
    """An api and its workers under a load."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.timeline = Timeline()
        self.script = LoadScript(setting.load, self.timeline)
        dice = Random(setting.load.seed)
        self.api = Api(
            self.timeline,
            Store(self.timeline, dice),
            self.script.specs,
            self._to_node,
            chooser=Chooser(setting.placement, Random(setting.load.seed)),
            on_ended=self._ended,
            keeps_records=False,
        )
        self.nodes: dict[bytes, Node] = {}
        self.ended: list[Live] = []
        self.kept: list[int] = []
        for at in range(setting.workers):
            self._join(f"node{at:04}")

    def __repr__(self) -> str:
        return f"<Simulation of {len(self.nodes)} nodes, {len(self.ended)} calls ended>"

    def run(self) -> Figures:
        """Let all calls come, and end; return what that came to."""
        load = self._setting.load
        self.api.host.every(1.0, self._tick)
        self.api.host.every(TICK_S, self._look_at_nodes)
        calls = list(arrivals(load))
        for num, arrival in enumerate(calls, 1):
            self.timeline.at(arrival.at, partial(self._accept, num, arrival))
        end = load.seconds
        while len(self.ended) < len(calls):
            end += 10.0
            self.timeline.until(end)
        return self._figures()

    def _join(self, name: str) -> None:
        setting, route = self._setting, name.encode()
        node = Node(
            self.timeline,
            name,
            self.script,
            partial(self._to_api, route),
            slots=setting.slots,
            pool=PoolSettings(
                max_warm=setting.max_warm,
                idle_s=setting.idle_s,
                keep_alive=setting.keep_alive,
            ),
        )
        self.nodes[route] = node
        self.api.receive(route, node.hello(), b"")
        session = self.api.roster.same_node(node.hello().node_id)
        assert session is not None
        node.opened(session.number)

    def _to_api(self, route: bytes, message: Message, payload: bytes) -> None:
        self.timeline.after(HOP_S, lambda: self.api.receive(route, message, payload))

    def _to_node(self, route: bytes, message: Message, payload: bytes) -> None:
        if route in self.nodes:
            node = self.nodes[route]
            self.timeline.after(HOP_S, lambda: node.heard(message, payload))

    def _accept(self, num: int, arrival: Arrival) -> None:
        now = self.timeline.now
        self.api.accept(
            Live(
                num=num,
                uuid=f"{num}",
                spec=self.script.specs[arrival.key],
                params=b"{}",
                timeout_ms=300_000,
                max_wait_ms=3_600_000,
                sync=True,
                accepted=now,
                accepted_ms=WALL_MS + round(now * 1000),
            )
        )

    def _ended(self, live: Live) -> None:
        self.ended.append(live)

    def _tick(self) -> None:
        self.api.perform(self.api.dispatch.tick(self.timeline.now))

    def _look_at_nodes(self) -> None:
        self.kept.append(sum(node.broker.pool.alive() for node in self.nodes.values()))
        for node in self.nodes.values():
            if node.broker.pool.sandboxes:
                node.look()

    def _figures(self) -> Figures:
        begun = self.script.begun
        waits = sorted(begun[live.num] - live.accepted for live in self.ended)
        work = [self.script.work.get(node.boot, 0.0) for node in self.nodes.values()]
        mean = statistics.fmean(work)
        cold = sum(live.warmth is Warmth.COLD for live in self.ended)
        return Figures(
            workers=self._setting.workers,
            placement=self._setting.placement,
            keep_alive=self._setting.keep_alive,
            calls=len(self.ended),
            cold=round(cold / len(self.ended), 5),
            delay_p50_s=round(waits[len(waits) // 2], 5),
            delay_p99_s=round(waits[len(waits) * 99 // 100], 5),
            busiest=round(max(work) / mean, 4),
            imbalance=round(statistics.pstdev(work) / mean, 4),
            sandboxes=round(statistics.fmean(self.kept), 1),
        )


def sweep(setting: Setting, told: Callable[[Figures], object]) -> list[Figures]:
    """Run every placement policy, then every keep-alive policy with the default placement.

    The latter once more where memory is tight: else what leaves first makes no difference.
    """
    wanted = [replace(setting, placement=policy) for policy in POLICIES]
    wanted += [replace(setting, keep_alive=policy) for policy in KEEP_ALIVES[1:]]
    wanted += [replace(tight(setting), keep_alive=policy) for policy in KEEP_ALIVES]
    found = []
    for one in wanted:
        found.append(Simulation(one).run())
        told(found[-1])
    return found


def tight(setting: Setting) -> Setting:
    """Return the same with a tenth of the nodes, and a day as much longer."""
    load = replace(setting.load, seconds=setting.load.seconds * 6)
    return replace(setting, load=load, workers=max(4, setting.workers // 10), idle_s=60.0)


HEAD: Final = (
    f"{'workers':>7} {'placement':13}{'keep-alive':13}{'cold':>8}{'p50 s':>9}{'p99 s':>9}"
    f"{'busiest':>9}{'imbalance':>11}{'sandboxes':>11}"
)


def line(one: Figures) -> str:
    """Return a run as a line of the table."""
    return (
        f"{one.workers:7} {one.placement:13}{one.keep_alive:13}{one.cold:8.1%}"
        f"{one.delay_p50_s:9.3f}{one.delay_p99_s:9.3f}{one.busiest:9.2f}{one.imbalance:11.3f}{one.sandboxes:11.0f}"
    )


def quick(setting: Setting) -> Setting:
    """Return the same in small: seconds, not minutes."""
    load = replace(setting.load, functions=40, calls=250, seconds=150.0, burst=10, run_s=1.5)
    return replace(setting, load=load, workers=15)


def main() -> None:
    """Run, print, and draw."""
    parser = argparse.ArgumentParser(description="Policies in virtual time.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="15 workers, 250 calls")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--no-plot", action="store_true", help="numbers alone")
    given = parser.parse_args()
    setting = Setting(load=Load(seed=given.seed))
    setting = quick(setting) if given.quick else setting
    print(HEAD)
    found = sweep(setting, lambda one: print(line(one), flush=True))
    given.out.mkdir(parents=True, exist_ok=True)
    told = {"setting": asdict(setting), "figures": [asdict(one) for one in found]}
    (given.out / "simulate.json").write_text(json.dumps(told, indent=2) + "\n")
    if not given.no_plot:
        from benchmarks.simulated_plot import draw  # noqa: PLC0415 (an extra)

        draw(found, given.out / "simulate.png")


if __name__ == "__main__":
    main()
