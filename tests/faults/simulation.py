"""The deciders against a bad network, deaths and standstills, in virtual time.

``python -m tests.faults.simulation --seed N --steps N`` goes on for as many events as wanted;
a violation names the seed that repeats it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tests.faults.simulated_world import Violation, World
from tests.virtual.node import Node
from wire.messages import WINDOW_BYTES
from wire.models import Status

#: How long trouble goes on in one world, and how long all may take to end after that.
ROUGH_S: Final = 60.0
SETTLE_S: Final = 50.0
QUIET_S: Final = 400.0
#: Mean seconds between two faults of a kind.
FAULTS: Final[dict[str, tuple[float, Callable[[World], None]]]] = {
    "kill api": (40.0, World.kill_api),
    "freeze api": (40.0, World.freeze_api),
    "kill node": (25.0, World.kill_node),
    "freeze node": (15.0, World.freeze_node),
    "kill miniworker": (3.0, World.kill_mini),
    "kill dbnode": (20.0, World.kill_store),
    "cut": (6.0, World.cut),
    "hold": (10.0, World.hold),
    "drain": (30.0, World.drain),
}


def rough(world: World) -> None:
    """Load a world and break what there is, for a while; then heal it."""
    for name, (mean_s, fault) in FAULTS.items():
        _again(world, mean_s, partial(_strike, world, name, fault))
    _again(world, world.dice.choice((0.02, 0.1, 0.5)), world.call)
    world.timeline.until(ROUGH_S)
    world.is_rough = False


def _strike(world: World, name: str, fault: Callable[[World], None]) -> None:
    world.faults[name] += 1
    fault(world)


def _again(world: World, mean_s: float, work: Callable[[], None]) -> None:
    """Do something at random moments, while it is rough."""

    def once() -> None:
        if world.is_rough:
            work()
            world.timeline.after(world.dice.expovariate(1 / mean_s), once)

    world.timeline.after(world.dice.expovariate(1 / mean_s), once)


def quiet(world: World) -> None:
    """Wait until all has ended; then nothing may be left, and nothing missing.

    Raises:
        Violation: something is.
    """
    # The last standstill and the last held line end, and sessions that they cost are back.
    world.timeline.until(world.timeline.now + SETTLE_S)
    end = world.timeline.now + QUIET_S
    while not _is_idle(world) and world.timeline.now < end:
        world.timeline.until(world.timeline.now + 1.0)
    # What is said once a second, and what is collected, has its time.
    world.timeline.until(world.timeline.now + 5.0)
    _check_calls(world)
    _check_api(world)
    _check_nodes(world)


def _is_idle(world: World) -> bool:
    api = world.api
    return (
        not api.host.is_dead
        and len(api.roster.sessions) == len(world.uplinks)
        and not api.dispatch.calls
        and not api.recorder.outbox
        and all(not up.node.broker.book.all and not up.node.results for up in world.uplinks)
    )


def _check_calls(world: World) -> None:
    for num, told in world.calls.items():
        record = world.store.find(num)
        if record is None:
            if not told.accepted:
                continue
            # The window of SEMANTICS 5: a synchronous end whose api and node both died.
            if told.sync and told.told_by != world.api.epoch and _was_lost_twice(world, num):
                world.counts["answered and lost with api and node"] += 1
                continue
            raise Violation(f"call {num} was answered and has no record: {told}")
        if not record.call.status.is_terminal:
            raise Violation(f"call {num} never ended: {record.call.status}, {told}")
        if record.call.status is Status.DONE and record.call.result != str(num):
            raise Violation(f"call {num} is recorded with the result {record.call.result!r}")


def _was_lost_twice(world: World, num: int) -> bool:
    told = world.calls[num]
    return not told.boots or bool(told.boots & world.dead_boots)


def _check_api(world: World) -> None:
    api = world.api
    desk = api.dispatch._desk
    left = {
        "calls": desk.calls,
        "adrift": desk.adrift,
        "backlog": len(desk.backlog),
        "bytes of the backlog": desk.backlog.size,
        "running": desk._running,
        "receipts": desk._receipts,
        "due": desk.agenda._due,
        "outbox": len(api.recorder.outbox),
    }
    if found := {name: value for name, value in left.items() if value}:
        raise Violation(f"left in the api: {found}")
    if len(api.roster.sessions) != len(world.uplinks):
        raise Violation(f"sessions: {api.roster!r}")
    setbacks = {up.node.session: up.node.broker.setbacks.count for up in world.uplinks}
    for session in api.roster.sessions.values():
        ledger = session.ledger
        odd = {
            "attempts": list(session.attempts),
            "prepared": session.prepared,
            "open": list(ledger._open),
            "spent": ledger._spent,
            "beyond": session.receipts._done,
            # A node that could make no sandbox grants one at a time until it can.
            "slots": not setbacks[session.number] and session.hello.slots - ledger.free,
            "lent": ledger.spare - session.hello.slots,
            "window": WINDOW_BYTES - session.window,
        }
        if found := {name: value for name, value in odd.items() if value}:
            raise Violation(f"left of {session!r}: {found}")


def _check_nodes(world: World) -> None:
    for up in world.uplinks:
        node = up.node
        session = world.api.roster.sessions[node.session]
        counts = node.broker.pool.counts()
        odd = {
            "attempts": node.broker.book.all,
            "results": node.results.ids(),
            "owed": node.results._owed,
            "behind": node.credits.is_behind,
            "warm": {
                key: (count, session.ledger.idle(key))
                for key, count in counts.items()
                if session.ledger.idle(key) != count
            },
        }
        if found := {name: value for name, value in odd.items() if value}:
            raise Violation(f"left on {node!r}: {found}")


def run(seed: int, steps: int, node: type[Node] = Node) -> dict[str, Any]:
    """Go through worlds until so many events have happened; return the numbers.

    Raises:
        Violation: a promise was broken; it says in which world.
    """
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    done = worlds = calls = 0
    while done < steps:
        world = World(seed + worlds, node)
        try:
            rough(world)
            quiet(world)
        except Exception as error:
            raise Violation(f"world {world.seed} at {world.timeline!r}: {error}") from error
        done, worlds = done + world.timeline.steps, worlds + 1
        calls += len(world.calls)
        counts.update(world.counts)
        faults.update(world.faults)
    return {
        "seed": seed,
        "worlds": worlds,
        "steps": done,
        "calls": calls,
        "faults": dict(sorted(faults.items())),
        "counts": dict(sorted(counts.items())),
        "violations": 0,
    }


def main() -> None:
    """Run, and print the numbers."""
    parser = argparse.ArgumentParser(description="The deciders under faults, in virtual time.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--steps", type=int, default=1_000_000)
    given = parser.parse_args()
    print(f"seed {given.seed}: the same again with --seed {given.seed}", flush=True)
    print(json.dumps(run(given.seed, given.steps), indent=2))


if __name__ == "__main__":
    main()
