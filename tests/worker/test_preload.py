"""What waits before calls come: by tables and scenes, without a socket."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.worker.test_broker import SPEC, BrokerMachine, Scene, of, outcome, start_of
from wire.messages import Catalogue, ColdBecause
from wire.models import Fault, Function, Item, Reason, Runtime
from worker import actions as act
from worker import memory
from worker.actions import Action
from worker.boxes import MAKING, Sandbox, Stage
from worker.broker import Broker
from worker.catalogue import Replica
from worker.keeping import FIRST_S, PARALLEL, Keeping
from worker.pool import SUPERSEDED_S, Pool, PoolSettings
from worker.preload import Preload, Wish, kind
from worker.pressure import Claim, Idle, Level, Reading, leaving, level

WHY = Reason(code="install_failed", message="no")
EASY, TIGHT, CRITICAL = Reading(50, 100), Reading(8, 100), Reading(3, 100)


def runtime(name: str = "py", **more: Any) -> Runtime:
    known: dict[str, Any] = {"image": name, "path": "/ws", "agent": "python", "revision": 1}
    return Runtime(name=name, **(known | more))


def function(name: str = "f", revision: int = 1, **more: Any) -> Function:
    return Function(function_name=name, runtime_name="py", revision=revision, **more)


def catalogue(*things: Runtime | Function, after: int = 0, deleted: bool = False) -> Catalogue:
    items = [
        Item(seq=after + at, runtime=thing, deleted=deleted)
        if isinstance(thing, Runtime)
        else Item(seq=after + at, function=thing, deleted=deleted)
        for at, thing in enumerate(things, 1)
    ]
    return Catalogue(
        session=1, epoch="e", after=after, seq=after + len(items), items=tuple(items)
    )


def preload(*things: Runtime | Function, policy: Any = "none", generic: int = 2) -> Preload:
    replica = Replica()
    replica.apply(catalogue(*things))
    found = Preload(replica, policy, generic)
    found.refresh()
    return found


def key(name: str = "f", revision: int = 1) -> str:
    return f"default/{name}@{revision}.1"


# --- wishes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "settings", "least", "generics"),
    [
        ("none", {}, 0, 0),
        ("none", {"preload": "image"}, 0, 0),
        ("none", {"preload": "runtime"}, 0, 1),
        ("none", {"preload": "function"}, 1, 0),
        ("none", {"min_warm": 3}, 3, 0),
        ("runtime", {}, 0, 1),
        ("runtime", {"memory": 512}, 0, 2),
        ("runtime", {"memory": 512, "preload": "none"}, 0, 1),
        ("runtime", {"preload": "function"}, 1, 1),
        ("function", {}, 1, 0),
        ("function", {"min_warm": 0}, 0, 0),
        ("function", {"min_warm": 4, "max_warm": 2}, 2, 0),
        ("function", {"preload": "none"}, 0, 0),
    ],
)
def test_what_a_node_wishes(
    policy: str, settings: dict[str, Any], least: int, generics: int
) -> None:
    found = preload(runtime(), function(**settings), policy=policy)
    assert found.least(key()) == least
    wishes = found.wishes()
    assert len([wish for wish in wishes if wish.stand_in]) == generics
    assert all(wish.least == 2 for wish in wishes if wish.stand_in)


def test_a_claim_is_only_for_functions_under_a_policy() -> None:
    own = preload(runtime(), function(), function("g", preload="runtime"))
    assert own.kind_of(key()) == ""
    assert own.kind_of(key("g")).startswith("generic: py /ws python 256 MiB")
    assert own.kind_of("default/unknown@1.1") == own.kind_of("nonsense") == ""


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({}, {"env": {"A": "1"}, "entry": "a.b", "timeout": 9.0}, True),
        ({}, {"memory": 512}, False),
        ({}, {"cpu": 1.0}, False),
        ({}, {"network": True}, False),
    ],
)
def test_a_kind_is_what_is_settled_when_a_sandbox_is_made(
    first: dict[str, Any], second: dict[str, Any], *, same: bool
) -> None:
    found = preload(
        runtime(), function("a", **first), function("b", **second), policy="runtime"
    )
    assert (found.kind_of(key("a")) == found.kind_of(key("b"))) is same


def test_what_has_no_agent_has_no_kind() -> None:
    found = preload(runtime(contract="image"), function(), policy="runtime")
    assert found.wishes() == []


@pytest.mark.parametrize("policy", ["runtime", "function"])
def test_nothing_waits_for_calls_of_an_image(policy: str) -> None:
    image = Function(
        function_name="f", runtime_name="image", revision=1, image="i:1", min_warm=2
    )
    # Even if an older catalogue has a runtime of that name.
    own = runtime("image", contract="image")
    assert preload(own, image, policy=policy).wishes() == []
    assert preload(own, image, policy=policy).kind_of(key()) == ""


def test_servers_of_an_image_wait_and_are_current() -> None:
    image = Function(
        function_name="f", runtime_name="image", revision=1, image="i:1", contract="http",
        min_warm=2,
    )  # fmt: skip
    found = preload(image, policy="runtime")
    assert [(wish.key, wish.least) for wish in found.wishes()] == [(key(), 2)]
    assert found.is_current(key())
    found.replica.apply(catalogue(image, after=1, deleted=True))
    found.refresh()
    assert not found.is_current(key())


def test_a_change_of_the_catalogue_changes_the_wishes() -> None:
    found = preload(runtime(), function(min_warm=1))
    assert found.is_current(key())
    found.replica.apply(catalogue(function(revision=2, min_warm=2), after=2))
    found.refresh()
    assert (found.least(key()), found.least(key(revision=2))) == (0, 2)
    assert (found.is_current(key()), found.is_current(key(revision=2))) == (False, True)
    found.replica.apply(catalogue(function(revision=2), after=3, deleted=True))
    found.refresh()
    assert found.wishes() == []
    assert not found.is_current(key(revision=2))


def test_an_older_revision_that_was_asked_for_changes_nothing() -> None:
    found = preload(runtime(), function(revision=2))
    items = (Item(seq=1, runtime=runtime()), Item(seq=1, function=function()))
    found.replica.apply(Catalogue(session=1, epoch="e", after=2, seq=2, pinned=items))
    assert found.replica.spec(key()) is not None
    assert not found.is_current(key())


# --- scenes -------------------------------------------------------------------------------


class Kept(Scene):
    """A scene with a catalogue; sandboxes are made by the clock's ticks."""

    def __init__(
        self,
        *things: Runtime | Function,
        policy: Any = "none",
        slots: int = 2,
        max_warm: int = 8,
        idle_s: float = 60.0,
    ) -> None:
        super().__init__(slots, max_warm, idle_s)
        self.preload = preload(*things, policy=policy)
        pool = Pool(PoolSettings(max_warm=max_warm, idle_s=idle_s), self.preload)
        self.broker = Broker(pool, slots)

    def works(self, orders: list[Action]) -> list[Action]:
        every = list(orders)
        for order in orders:
            match order:
                case act.WantBundle():
                    spec = self.preload.replica.spec(order.key) or SPEC
                    every += self.works(self.broker.bundle(order.sandbox, spec, "b", self.now))
                case act.Spawn():
                    every += self.works(self.broker.up(order.sandbox, self.now))
                case act.Specialise() | act.Premake():
                    every += self.works(self.broker.ready(order.sandbox, self.now))
                case act.Stop():
                    self.broker.exited(order.sandbox, "told", self.now)
        return every

    def tick(self, seconds: float = 0.1) -> list[Action]:
        self.now += seconds
        return self.works(self.broker.tick(self.now))

    def settle(self) -> None:
        for _ in range(20):
            self.tick(0.01)

    @property
    def counts(self) -> dict[str, int]:
        return self.broker.pool.counts()

    @property
    def generics(self) -> dict[str, int]:
        return self.broker.pool.resting.generics()

    def register(self, *things: Runtime | Function, deleted: bool = False) -> None:
        at = self.preload.replica.seq
        self.preload.replica.apply(catalogue(*things, after=at, deleted=deleted))


def test_generic_sandboxes_wait_and_a_call_claims_one_without_a_fork() -> None:
    scene = Kept(runtime(), function(), policy="runtime")
    scene.settle()
    assert scene.generics == {"py": 2}
    orders = scene.prepare((1, 1), key())
    assert [type(order) for order in orders] == [act.WantBundle, act.Specialise, act.SayReady]
    (job,) = of(scene.start((1, 1), key()), act.SendJob)
    (end,) = of(scene.done(job.sandbox, (1, 1)), act.End)
    made = end.outcome.made
    assert end.outcome.start == "cold"
    assert made is not None
    assert (made.generic, made.because) == ("py", ColdBecause.FIRST)
    assert "sandbox" not in made.stages
    # It is the function's for good, and the place of the one that was taken is filled.
    assert scene.counts == {key(): 1}
    scene.settle()
    assert scene.generics == {"py": 2}
    assert scene.counts == {key(): 1}


def test_under_none_nothing_waits_and_nothing_is_claimed() -> None:
    scene = Kept(runtime(), function(), function("g", preload="none"))
    scene.settle()
    assert list(scene.broker.pool) == []
    assert of(scene.prepare((1, 1), key("g")), act.Spawn)


def test_a_generic_sandbox_is_no_credit() -> None:
    """The api would spend it with START, and the bundle may not be there."""
    scene = Kept(runtime(), function(), policy="runtime")
    scene.settle()
    assert scene.counts == {}
    assert scene.start((1, 1), key()) == [act.SayReturned((1, 1))]


def test_many_functions_share_one_pool_and_the_oldest_makes_room() -> None:
    names = [f"f{n}" for n in range(12)]
    scene = Kept(runtime(), *map(function, names), policy="runtime", max_warm=6)
    for number, name in enumerate(names, 1):
        scene.settle()
        assert scene.generics == {"py": 2}
        assert not of(scene.prepare((number, 1), key(name)), act.Spawn)
        (job,) = of(scene.start((number, 1), key(name)), act.SendJob)
        scene.now += 1
        scene.done(job.sandbox, (number, 1))
        assert scene.broker.pool.alive() <= 6
    scene.settle()
    assert scene.counts == {key(name): 1 for name in names[-4:]}


def test_generic_sandboxes_leave_half_of_the_room_to_functions() -> None:
    kinds = [runtime(f"r{n}") for n in range(9)]
    scene = Kept(*kinds, policy="runtime", max_warm=8)
    scene.settle()
    assert sum(scene.generics.values()) == 4
    assert len(scene.generics) == 4


def test_a_function_waits_loaded_from_its_registration_on() -> None:
    scene = Kept(runtime(), policy="function")
    scene.settle()
    assert list(scene.broker.pool) == []
    scene.register(function())
    scene.tick()
    assert scene.counts == {key(): 1}
    (job,) = of(scene.start((1, 1), key()), act.SendJob)
    # One that is busy counts.
    assert of(scene.tick(), act.Spawn) == []
    (end,) = of(scene.done(job.sandbox, (1, 1)), act.End)
    assert (end.outcome.start, end.outcome.made) == ("warm", None)


def test_what_is_kept_outlives_its_idle_time_and_the_rest_does_not() -> None:
    scene = Kept(runtime(), function(min_warm=1, idle=5.0))
    scene.settle()
    for number in (1, 2):
        scene.prepare((number, 1), key())
        scene.start((number, 1), key())
    for box in list(scene.broker.pool):
        scene.done(box.name, box.queue[0])
    assert scene.counts == {key(): 2}
    scene.tick(4.9)
    assert scene.counts == {key(): 2}
    scene.tick(0.2)
    assert scene.counts == {key(): 1}
    scene.tick(5000)
    assert scene.counts == {key(): 1}


def test_the_idle_time_begins_again_after_each_call() -> None:
    scene = Kept(runtime(), function(idle=5.0))
    box = scene.run((1, 1), key())
    scene.tick(9)
    assert scene.broker.pool.alive() == 1
    scene.done(box, (1, 1))
    scene.tick(4.5)
    scene.run((2, 1), key())
    scene.done(box, (2, 1))
    scene.tick(4.5)
    assert scene.counts == {key(): 1}
    scene.tick(0.6)
    assert scene.counts == {}


def test_no_more_wait_than_max_warm() -> None:
    scene = Kept(runtime(), function(max_warm=1), slots=3)
    boxes = [scene.run((number, 1), key()) for number in (1, 2, 3)]
    for number, box in enumerate(boxes, 1):
        scene.done(box, (number, 1))
    assert scene.counts == {key(): 1}
    assert [box.name for box in scene.broker.pool] == [boxes[2]]


def test_a_changed_min_warm_takes_effect_and_the_old_revision_leaves() -> None:
    scene = Kept(runtime(), function(min_warm=1))
    scene.settle()
    scene.register(function(revision=2, min_warm=2))
    scene.settle()
    assert scene.counts == {key(): 1, key(revision=2): 2}
    scene.tick(SUPERSEDED_S)
    assert scene.counts == {key(revision=2): 2}


def test_a_deleted_function_lets_its_sandboxes_go() -> None:
    scene = Kept(runtime(), function(min_warm=2))
    scene.settle()
    scene.register(function(), deleted=True)
    scene.settle()
    scene.tick(SUPERSEDED_S)
    assert list(scene.broker.pool) == []


def test_nothing_is_made_ahead_while_a_call_waits_for_its_own() -> None:
    scene = Kept(runtime(), function(preload="none"), function("g", min_warm=2))
    orders = scene.broker.prepare((1, 1), key(), scene.now)
    (spawn,) = of(orders, act.Spawn)
    assert of(scene.broker.tick(scene.now), act.Spawn) == []
    scene.works(orders)
    assert len(of(scene.broker.tick(scene.now), act.Spawn)) == 1
    assert spawn.sandbox == "m1"


def test_only_so_many_are_made_at_once() -> None:
    scene = Kept(runtime(), function(min_warm=5))
    for _ in range(3):
        scene.now += 1
        scene.broker.tick(scene.now)
        assert len(list(scene.broker.pool)) <= PARALLEL


def test_a_call_waits_for_the_one_that_is_made_ahead() -> None:
    scene = Kept(runtime(), function(min_warm=1))
    ahead = scene.broker.tick(scene.now)
    assert of(ahead, act.Spawn)
    assert scene.broker.prepare((1, 1), key(), scene.now) == []
    assert of(scene.works(ahead), act.SayReady) == [act.SayReady((1, 1))]


def test_a_claim_without_a_bundle_waits_again_and_the_call_is_answered() -> None:
    scene = Kept(runtime(), function(), policy="runtime")
    scene.settle()
    (want,) = scene.broker.prepare((1, 1), key(), scene.now)
    assert isinstance(want, act.WantBundle)
    assert scene.generics == {"py": 1}
    orders = scene.broker.no_bundle(want.sandbox, Fault.FUNCTION, WHY, "log", scene.now)
    (said,) = of(orders, act.SayReturned)
    assert (said.id, said.fault, said.reason) == ((1, 1), Fault.FUNCTION, WHY)
    assert of(orders, act.DropBundle)
    assert scene.generics == {"py": 2}
    assert not of(scene.prepare((2, 1), key()), act.Spawn)


def test_a_claimed_sandbox_that_dies_is_replaced_and_no_call_fails() -> None:
    scene = Kept(runtime(), function(), policy="runtime")
    scene.settle()
    (want,) = scene.broker.prepare((1, 1), key(), scene.now)
    assert isinstance(want, act.WantBundle)
    orders = scene.broker.exited(want.sandbox, "killed", scene.now)
    assert of(orders, act.SayReturned) == []
    assert len(of(orders, act.Spawn)) == 1
    assert of(scene.works(orders), act.SayReady) == [act.SayReady((1, 1))]


def test_a_claimed_sandbox_that_breaks_for_the_node_is_replaced_once() -> None:
    scene = Kept(runtime(), function(), policy="runtime")
    scene.settle()
    (want,) = scene.broker.prepare((1, 1), key(), scene.now)
    assert isinstance(want, act.WantBundle)
    scene.broker.bundle(want.sandbox, SPEC, "b", scene.now)
    orders = scene.broker.broken(want.sandbox, Fault.NODE, WHY, scene.now)
    assert of(orders, act.SayReturned) == []
    (spawn,) = of(orders, act.Spawn)
    # The new one is no claim: should it break as well, that is the node's answer.
    scene.broker.up(spawn.sandbox, scene.now)
    scene.broker.bundle(spawn.sandbox, SPEC, "b", scene.now)
    (said,) = of(
        scene.broker.broken(spawn.sandbox, Fault.NODE, WHY, scene.now), act.SayReturned
    )
    assert (said.id, said.fault) == ((1, 1), Fault.NODE)


def test_what_a_call_waits_for_has_its_turn_before_what_is_made_ahead() -> None:
    scene = Kept(runtime(), function("f", preload="none"), function("g", min_warm=2))
    pool = scene.broker.pool = Pool(PoolSettings(max_warm=8, starts=1), scene.preload)
    scene.broker.keeping = Keeping(pool)
    ahead = [scene.broker.tick(scene.now + n) for n in (0, 1)]
    spawns = [spawn for orders in ahead for spawn in of(orders, act.Spawn)]
    assert len(spawns) == 2
    (call,) = of(scene.broker.prepare((1, 1), key(), scene.now), act.Spawn)
    ready = [*(spawn.sandbox for spawn in spawns), call.sandbox]
    ordered: list[str] = []
    for name in ready:
        spec = SPEC if name == call.sandbox else scene.preload.replica.spec(key("g"))
        assert spec is not None
        orders = scene.broker.up(name, scene.now)
        orders += scene.broker.bundle(name, spec, "b", scene.now)
        ordered += [order.sandbox for order in of(orders, act.Specialise)]
    assert ordered == [ready[0]]
    (second,) = of(scene.broker.ready(ready[0], scene.now), act.Specialise)
    assert second.sandbox == call.sandbox
    assert scene.broker.pool.sandboxes[ready[1]].stage is Stage.QUEUED


def test_a_kind_that_cannot_be_made_is_tried_ever_more_rarely() -> None:
    scene = Kept(runtime(), policy="runtime")
    pauses, last = [], scene.now
    for _ in range(4):
        while not (spawns := of(scene.broker.tick(scene.now), act.Spawn)):
            scene.now += 0.1
        pauses.append(scene.now - last)
        last = scene.now
        for spawn in spawns:
            scene.broker.up(spawn.sandbox, scene.now)
            scene.broker.broken(spawn.sandbox, Fault.NODE, WHY, scene.now)
            scene.broker.exited(spawn.sandbox, "broken", scene.now)
    assert pauses[0] == 0
    assert FIRST_S <= pauses[1] < pauses[2] < pauses[3]


def test_generic_sandboxes_that_die_are_made_again() -> None:
    scene = Kept(runtime(), policy="runtime")
    scene.settle()
    for box in list(scene.broker.pool):
        scene.broker.dying(box.name, scene.now)
        scene.broker.exited(box.name, "killed", scene.now)
    assert of(scene.tick(0.1), act.Spawn) == []
    scene.now += 10
    scene.settle()
    assert scene.generics == {"py": 2}


def test_a_draining_node_stops_what_waits_and_makes_nothing() -> None:
    scene = Kept(runtime(), function(min_warm=1), policy="runtime")
    scene.settle()
    names = {box.name for box in scene.broker.pool}
    assert len(names) == 3
    stops = of(scene.broker.drain(scene.now), act.Stop)
    assert {stop.sandbox for stop in stops} == names
    assert of(scene.tick(60), act.Spawn) == []


# --- memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading(100, 100), Level.EASY),
        (Reading(10, 100), Level.EASY),
        (Reading(9, 100), Level.TIGHT),
        (Reading(3, 100), Level.CRITICAL),
        (Reading(50, 100, stalled=21), Level.TIGHT),
        (Reading(50, 100, stalled=61), Level.CRITICAL),
    ],
)
def test_how_tight_memory_is(reading: Reading, expected: Level) -> None:
    assert level(reading) is expected


def idle(*claims: Claim) -> list[Idle]:
    return [Idle(f"m{at}", at, claim) for at, claim in enumerate(claims)]


NOBODY, GENERIC, FUNCTION = Claim


@pytest.mark.parametrize(
    ("how", "there", "gone"),
    [
        (Level.EASY, [NOBODY, NOBODY], []),
        (Level.TIGHT, [], []),
        (Level.TIGHT, [GENERIC, NOBODY, NOBODY], ["m1"]),
        (Level.TIGHT, [FUNCTION, GENERIC], ["m1"]),
        (Level.TIGHT, [FUNCTION, FUNCTION], []),
        (Level.CRITICAL, [FUNCTION, GENERIC, NOBODY], ["m2", "m1"]),
        (Level.CRITICAL, [FUNCTION], ["m0"]),
    ],
)
def test_who_leaves_when_memory_is_tight(
    how: Level, there: list[Claim], gone: list[str]
) -> None:
    assert leaving(how, idle(*there)) == gone


def test_the_order_in_which_idle_ones_are_told_does_not_matter() -> None:
    there = idle(NOBODY, GENERIC, NOBODY, FUNCTION)
    for order in itertools.permutations(there):
        assert leaving(Level.CRITICAL, order) == ["m0", "m2"]


def test_tight_memory_shrinks_the_pool_and_stops_refilling() -> None:
    scene = Kept(runtime(), function(), function("g", min_warm=1), policy="runtime")
    scene.settle()
    box = scene.run((1, 1), key())
    scene.done(box, (1, 1))
    scene.settle()
    assert (scene.generics, scene.counts) == ({"py": 2}, {key(): 1, key("g"): 1})
    for _ in range(6):
        scene.works(scene.broker.pressed(TIGHT, scene.now))
        scene.settle()
    assert (scene.generics, scene.counts) == ({}, {key("g"): 1})
    assert scene.broker.prepare((2, 1), key(), scene.now)
    (made,) = [box for box in scene.broker.pool if box.key == key()]
    assert made.because is ColdBecause.MEMORY
    scene.works(scene.broker.pressed(CRITICAL, scene.now))
    assert scene.counts == {}
    scene.broker.pressed(EASY, scene.now)
    scene.works([act.Spawn(made.name), act.WantBundle(made.name, key())])
    scene.settle()
    assert scene.generics == {"py": 2}


def test_what_runs_is_left_alone_however_tight_it_is() -> None:
    scene = Kept(runtime(), function())
    box = scene.run((1, 1), key())
    assert scene.broker.pressed(CRITICAL, scene.now) == []
    assert scene.broker.pool.sandboxes[box].stage is Stage.BUSY


MEMINFO = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n"


def machine(root: Path, **files: str) -> Path:
    """Make what the kernel shows, below a folder; ``__`` is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_machine_says_what_is_left(tmp_path: Path) -> None:
    psi = "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00 total=1\n"
    root = machine(tmp_path, proc__meminfo=MEMINFO, proc__pressure__memory=psi)
    assert memory.read(root) == Reading(400 << 10, 1000 << 10, 12.5)


@pytest.mark.parametrize("place", ["", "user/skep"])
def test_a_cgroup_that_has_less_left_counts(tmp_path: Path, place: str) -> None:
    root = machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup=f"0::/{place}\n")
    group = root / "sys/fs/cgroup" / place
    group.mkdir(parents=True)
    (group / "memory.max").write_text("204800\n")
    (group / "memory.current").write_text("195000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 5000\n")
    assert memory.read(root) == Reading(14800, 204800)
    (group / "memory.max").write_text("max\n")
    assert memory.read(root).total == 1000 << 10


def test_the_older_cgroups_are_read_too(tmp_path: Path) -> None:
    root = machine(
        tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="4:cpu:/a\n3:memory:/b\n"
    )
    group = root / "sys/fs/cgroup/memory/b"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("1000")
    (group / "memory.usage_in_bytes").write_text("990")
    (group / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory.read(root) == Reading(10, 1000)


def test_where_the_kernel_tells_nothing_memory_is_easy(tmp_path: Path) -> None:
    assert level(memory.read(tmp_path)) is Level.EASY
    assert level(memory.read()) in Level


def test_a_wish_of_a_kind_says_how_it_is_made() -> None:
    (wish,) = preload(runtime(), policy="runtime", generic=3).wishes()
    assert isinstance(wish, Wish)
    assert wish.least == 3
    assert wish.stand_in is not None
    assert wish.key == kind(wish.stand_in)
    assert (start_of((1, 1)).key, outcome().made) == ("default/f@1.1", None)


class PreloadMachine(BrokerMachine):
    """The same in any order with generic sandboxes, wishes, and memory that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        functions = [function("f"), function("g", min_warm=1), function("h", revision=2)]
        self.preload = preload(runtime(), *functions, policy="runtime")
        speeds = self.broker.speeds
        self.broker = Broker(Pool(PoolSettings(max_warm=6, idle_s=5), self.preload), 3)
        self.broker.speeds = speeds
        self.specialised: set[str] = set()

    def carry(self, orders: list[Action]) -> None:
        for order in orders:
            match order:
                case act.WantBundle(box) if box in self.minis:
                    assert self.told[box] == {"up", "bundle", "ready"}, "claimed too early"
                    self.told[box] = {"up"}
                case act.DropBundle(box) if box in self.minis:
                    self.told[box] = {"up", "bundle", "ready"}
                case act.Specialise(box):
                    self.specialised.add(box)
                case act.SendJob(box, id_):
                    key = self.broker.book.all[id_].key
                    assert self.broker.pool.sandboxes[box].key == key
                    assert box in self.specialised
            super().carry([order])
            if isinstance(order, act.Spawn) and self._box(order.sandbox).is_generic:
                self.told[order.sandbox] = {"bundle"}

    def _box(self, name: str) -> Sandbox:
        return self.broker.pool.sandboxes[name]

    @rule(reading=st.sampled_from([EASY, TIGHT, CRITICAL]))
    def memory_changes(self, reading: Reading) -> None:
        self.carry(self.broker.pressed(reading, self.now))

    @rule(least=st.integers(0, 2), name=st.sampled_from("fgh"), deleted=st.booleans())
    def catalogue_changes(self, least: int, name: str, deleted: bool) -> None:
        revision = 2 if name == "h" else 1
        change = function(name, revision=revision, min_warm=least)
        at = self.preload.replica.seq
        self.preload.replica.apply(catalogue(change, after=at, deleted=deleted))

    @rule(count=st.integers(1, 6))
    def quiet(self, count: int) -> None:
        """Nothing comes for a while: what should wait is made."""
        for _ in range(count):
            self.time_passes(0.1)
            for box in [b for b in self.minis if "ready" not in self.told[b]]:
                self.step(box)

    @invariant()
    def what_has_code_is_never_generic_again(self) -> None:
        assert not any(
            box.is_generic and box.name in self.specialised for box in self.broker.pool
        )

    @invariant()
    def generic_ones_leave_room(self) -> None:
        living = [box for box in self.broker.pool if box.stage is not Stage.STOPPING]
        # One that came back from a claim may be one too many until it is claimed again.
        claims = sum(box.is_claimed for box in living)
        assert sum(box.is_generic for box in living) <= 3 + self.broker.slots + claims
        assert all(not box.queue for box in living if box.is_generic)

    @invariant()
    def nothing_is_made_ahead_of_a_waiting_call(self) -> None:
        making = [box for box in self.broker.pool if box.is_ahead and box.stage in MAKING]
        assert len(making) <= PARALLEL


TestPreload = PreloadMachine.TestCase
