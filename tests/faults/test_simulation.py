"""The deciders under faults in virtual time: some worlds in each run; more by its command."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest

from tests.faults import simulation
from tests.faults.simulated_world import Told, Violation, World
from tests.faults.simulation import quiet, rough, run
from tests.virtual.node import Node
from wire.models import Status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Events of a run: a million takes minutes.
STEPS = 30_000


def test_nothing_that_was_promised_is_broken_in_any_world() -> None:
    told = run(seed=1, steps=STEPS)
    print(json.dumps(told, indent=2))
    assert told["calls"] > 100
    assert told["counts"]["ended DONE"] > 100
    # Something came of it: else nothing was proved.
    assert told["counts"]["attempts beyond the first"] > 0
    assert told["counts"]["messages lost"] > 0
    assert set(told["faults"]) >= {"cut", "hold", "kill miniworker", "kill node"}


def test_a_seed_is_one_world() -> None:
    def lived(seed: int) -> tuple[int, dict[int, Told], object]:
        world = World(seed)
        rough(world)
        quiet(world)
        return world.timeline.steps, world.calls, world.counts

    assert lived(7) == lived(7)
    assert lived(7)[0] != lived(8)[0]


class _Careless(Node):
    """Forgets what it has not been thanked for."""

    def opened(self, session: int) -> None:
        for id_ in self.results.ids():
            self.results._held.pop(id_)
        super().opened(session)


class _Deaf(Node):
    """Never hears that a result is stored."""

    def _recorded(self, upto: int) -> None:
        pass


@pytest.mark.parametrize("kind", [_Careless, _Deaf])
def test_a_worker_that_breaks_a_rule_is_found_out(kind: type[Node]) -> None:
    with pytest.raises(Violation):
        run(seed=1, steps=STEPS, node=kind)


@cache
def _lived() -> World:
    """A world that went well; each test that breaks it breaks something else."""
    world = World(3)
    rough(world)
    quiet(world)
    return world


def _ended_twice(world: World) -> None:
    num, told = next((n, t) for n, t in world.calls.items() if t.ended is Status.DONE)
    live = type("Ended", (), {"num": num, "status": Status.LOST})()
    told.told_by = world.api.epoch
    world._ended(world.api, live)


def _began_twice(world: World) -> None:
    num = next(n for n, t in world.calls.items() if t.begun and not t.spec.function.may_repeat)
    world.begin((num, 2), world.calls[num].spec.key, "node0-1")


def _vanished(world: World) -> None:
    num = next(n for n, t in world.calls.items() if t.ended and not t.sync)
    del world.store.entries[num]
    simulation._check_calls(world)


def _left(world: World) -> None:
    session = next(iter(world.api.roster.sessions.values()))
    session.sent_bytes += 1
    simulation._check_api(world)


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (_ended_twice, "ended twice"),
        (_began_twice, "began 2 times"),
        (_vanished, "has no record"),
        (_left, "window"),
    ],
)
def test_each_promise_is_looked_at(breaks: Callable[[World], None], words: str) -> None:
    world = _lived()
    with pytest.raises(Violation, match=words):
        breaks(world)
