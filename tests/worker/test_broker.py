"""The broker and its pool: by scenes, and by a machine that tries everything."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from wire.messages import INLINE_BYTES, ColdBecause, Outcome, Start
from wire.models import Fault, Function, Reason, Runtime, Spec, Status
from worker import actions as act
from worker.actions import Action, Id
from worker.boxes import Stage
from worker.broker import Broker
from worker.partings import MAX_KEYS, Partings
from worker.placing import CANCEL_S, HELD_S, OVERDUE_S
from worker.pool import STOP_S, Pool, PoolSettings
from worker.setbacks import FIRST_S, Setbacks
from worker.speed import LONG_HEAD_S, RECALL_S, Speeds

SPEC = Spec(
    function=Function(function_name="f", runtime_name="r", revision=1),
    runtime=Runtime(name="r", image="r", path="/ws", revision=1),
)
IMAGE = Spec(
    function=Function(function_name="f", runtime_name="image", image="i", revision=1),
    runtime=Runtime(name="image", image="i", path="/", contract="image", revision=1),
)
KEYS = ["default/f@1.1", "default/g@1.1", "default/h@2.1"]
KEY = KEYS[0]
WHY = Reason(code="cancelled", message="by the user")


def start_of(
    id_: Id, key: str = KEY, size: int = 2, timeout_ms: int = 5000, ahead: bool = False
) -> Start:
    return Start(
        session=1, call=id_[0], attempt=id_[1], key=key, timeout_ms=timeout_ms, size=size,
        record=b"{}", ahead=ahead,
    )  # fmt: skip


def outcome(ms: float = 10.0, status: Status = Status.DONE) -> Outcome:
    reason = None if status is Status.DONE else WHY
    return Outcome(status=status, duration_ms=ms, reason=reason)


T = TypeVar("T")


def of(orders: list[Action], kind: type[T]) -> list[T]:
    return [order for order in orders if isinstance(order, kind)]


class Scene:
    """A broker, a clock, and a node on which everything works at once."""

    SPEC = SPEC

    def __init__(
        self, slots: int = 2, max_warm: int = 4, idle_s: float = 60.0, starts: int = 4
    ) -> None:
        pool = PoolSettings(max_warm=max_warm, idle_s=idle_s, starts=starts)
        self.broker = Broker(Pool(pool), slots)
        self.now = 100.0

    def works(self, orders: list[Action]) -> list[Action]:
        """Carry out what makes a sandbox; return everything that was ordered."""
        every = list(orders)
        for order in orders:
            if isinstance(order, act.WantBundle):
                every += self.works(self.broker.bundle(order.sandbox, self.SPEC, "b", self.now))
            if isinstance(order, act.Spawn):
                every += self.works(self.broker.up(order.sandbox, self.now))
            if isinstance(order, act.Specialise):
                every += self.works(self.broker.ready(order.sandbox, self.now))
        return every

    def prepare(self, id_: Id, key: str = KEY) -> list[Action]:
        return self.works(self.broker.prepare(id_, key, self.now))

    def start(self, id_: Id, key: str = KEY, **fields: Any) -> list[Action]:
        return self.works(self.broker.start(start_of(id_, key, **fields), b"{}", self.now))

    def run(self, id_: Id, key: str = KEY) -> str:
        """PREPARE and START; return the sandbox that runs it."""
        self.prepare(id_, key)
        (job,) = of(self.start(id_, key), act.SendJob)
        return job.sandbox

    def done(
        self, box: str, id_: Id, ms: float = 10.0, ran_ms: float | None = None
    ) -> list[Action]:
        said = self.broker.done(box, id_, outcome(ms), (0, 0, 0), b"", self.now, ran_ms)
        return self.works(said)


def test_prepare_makes_a_sandbox_and_says_ready_once() -> None:
    scene = Scene()
    orders = scene.prepare((1, 1))
    assert [type(order) for order in orders] == [
        act.WantBundle, act.Spawn, act.Specialise, act.SayReady,
    ]  # fmt: skip
    assert scene.prepare((1, 1)) == []
    assert scene.broker.free == 1


def test_a_warm_sandbox_is_used_again_and_the_first_call_was_cold() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    (end,) = of(scene.done(box, (1, 1)), act.End)
    assert end.outcome.start == "cold"
    (job,) = of(scene.start((2, 1)), act.SendJob)
    assert job.sandbox == box
    (end,) = of(scene.done(box, (2, 1)), act.End)
    assert end.outcome.start == "warm"
    assert end.outcome.miniworker == box


class ImageScene(Scene):
    """The same with a function that is an image."""

    SPEC = IMAGE


def test_each_call_of_an_image_has_a_sandbox_of_its_own_and_is_cold() -> None:
    scene = ImageScene()
    box = scene.run((1, 1))
    orders = scene.done(box, (1, 1), ms=0.01)
    assert act.Stop(box) in orders
    assert scene.broker.pool.counts() == {}
    assert scene.broker.places_ahead(scene.now) == {}
    again = scene.run((2, 1))
    assert again != box
    (end,) = of(scene.done(again, (2, 1)), act.End)
    assert end.outcome.made is not None
    assert (end.outcome.start, end.outcome.made.because) == ("cold", ColdBecause.ONE_CALL)


def test_two_calls_of_an_image_wait_each_for_its_own() -> None:
    scene = ImageScene()
    first, second = scene.run((1, 1)), scene.run((2, 1))
    assert first != second
    for box, id_ in ((first, (1, 1)), (second, (2, 1))):
        (end,) = of(scene.done(box, id_), act.End)
        assert end.outcome.start == "cold"


def test_what_a_node_could_not_begin_is_returned_with_its_fault() -> None:
    scene = ImageScene()
    box = scene.run((1, 1))
    full = Reason(code="no_space", message="the disk is full")
    orders = scene.broker.broken(box, Fault.NODE, full, scene.now)
    (said,) = of(orders, act.SayReturned)
    assert (said.id, said.fault, said.reason, said.owed) == ((1, 1), Fault.NODE, full, True)


def test_an_engine_may_take_its_time_before_a_call_of_an_image_is_late() -> None:
    scene = ImageScene()
    box = scene.run((1, 1))
    scene.now += 5 + 5 + 59
    assert not of(scene.broker.tick(scene.now), act.Kill)
    scene.now += 2
    assert [order.sandbox for order in of(scene.broker.tick(scene.now), act.Kill)] == [box]


def test_start_is_executed_once_however_often_it_comes() -> None:
    scene = Scene()
    scene.run((1, 1))
    assert scene.start((1, 1)) == []


def test_a_start_without_an_idle_sandbox_is_returned() -> None:
    assert Scene().start((1, 1)) == [act.SayReturned((1, 1))]


def test_nothing_beyond_the_slots_is_taken() -> None:
    scene = Scene(slots=1)
    scene.run((1, 1))
    assert scene.prepare((2, 1)) == [act.SayReturned((2, 1))]
    assert scene.start((3, 1)) == [act.SayReturned((3, 1))]


def test_a_prepared_attempt_takes_whichever_sandbox_is_free_first() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    orders = scene.broker.prepare((2, 1), KEY, scene.now)
    (made,) = of(orders, act.Spawn)
    orders = scene.done(box, (1, 1))
    assert of(orders, act.SayReady) == [act.SayReady((2, 1))]
    assert [job.sandbox for job in of(scene.start((2, 1)), act.SendJob)] == [box]
    # The sandbox in the making becomes an idle one.
    scene.works([*orders, act.WantBundle(made.sandbox, KEY), act.Spawn(made.sandbox)])
    assert scene.broker.pool.counts() == {KEY: 1}


def test_no_more_sandboxes_are_made_at_once_than_may_be() -> None:
    scene = Scene(slots=8, max_warm=8, starts=2)
    boxes = []
    for call in range(5):
        orders = scene.broker.prepare((call, 1), KEYS[call % 3], scene.now)
        (spawn,) = of(orders, act.Spawn)
        boxes.append(spawn.sandbox)
        scene.broker.bundle(spawn.sandbox, SPEC, "b", scene.now)
    begun = [of(scene.broker.up(box, scene.now), act.Specialise) for box in boxes]
    assert [len(orders) for orders in begun] == [1, 1, 0, 0, 0]
    # Whoever leaves the making, however, lets the next begin: first come, first made.
    ready = scene.broker.ready(boxes[0], scene.now)
    assert [one.sandbox for one in of(ready, act.Specialise)] == [boxes[2]]
    broken = scene.broker.broken(boxes[1], Fault.NODE, WHY, scene.now)
    assert [one.sandbox for one in of(broken, act.Specialise)] == [boxes[3]]
    died = scene.broker.exited(boxes[2], "killed", scene.now)
    assert [one.sandbox for one in of(died, act.Specialise)] == [boxes[4]]


def test_who_waits_for_a_turn_is_not_late_and_leaves_when_nobody_needs_it() -> None:
    scene = Scene(slots=8, max_warm=8, starts=1)
    boxes = []
    for call in range(3):
        (spawn,) = of(scene.broker.prepare((call, 1), KEY, scene.now), act.Spawn)
        boxes.append(spawn.sandbox)
        scene.broker.bundle(spawn.sandbox, SPEC, "b", scene.now)
        scene.broker.up(spawn.sandbox, scene.now)
    scene.now += 59
    scene.broker.ready(boxes[0], scene.now)
    scene.now += 59
    assert of(scene.broker.tick(scene.now), act.Kill) == []
    # The one that is being made is as many as still wait: the last is not needed.
    orders = scene.broker.cancel((1, 1), WHY, scene.now) + scene.broker.tick(scene.now)
    assert of(orders, act.Stop) == [act.Stop(boxes[2])]


def test_a_node_that_could_make_no_sandbox_takes_one_call_at_a_time_after_a_pause() -> None:
    scene = Scene(slots=4, starts=4)
    idle = scene.run((9, 1), KEYS[1])
    scene.done(idle, (9, 1))
    assert scene.broker.granted(scene.now) == (4, 0)
    for call in range(2):
        (spawn,) = of(scene.broker.prepare((call, 1), KEY, scene.now), act.Spawn)
        scene.broker.bundle(spawn.sandbox, SPEC, "b", scene.now)
        scene.broker.up(spawn.sandbox, scene.now)
        orders = scene.broker.broken(spawn.sandbox, Fault.NODE, WHY, scene.now)
        assert [one.fault for one in of(orders, act.SayReturned)] == [Fault.NODE]
    # What is warm serves on; the two failures at one time count as one.
    assert scene.broker.granted(scene.now) == (0, 4)
    scene.now += FIRST_S
    assert scene.broker.granted(scene.now) == (1, 3)
    scene.run((5, 1))
    assert scene.broker.granted(scene.now) == (3, 0)


def test_the_pauses_grow_to_a_limit() -> None:
    setbacks, now, pauses = Setbacks(), 50.0, []
    for _ in range(8):
        setbacks.failed(now)
        pauses.append(setbacks.until - now)
        now = setbacks.until
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert setbacks.allowed(5, now - 0.1) == 0
    assert f"{setbacks.count} times in a row" in setbacks.words


NO_AGENT = Reason(code="no_agent", message="this node has no agent 'cobol'")


@pytest.mark.parametrize(
    ("fault", "reason"), [(Fault.FUNCTION, WHY), (Fault.NONE, WHY), (Fault.NODE, NO_AGENT)]
)
def test_what_stops_one_function_only_is_no_setback(fault: Fault, reason: Reason) -> None:
    scene = Scene(slots=4)
    (spawn,) = of(scene.broker.prepare((1, 1), KEY, scene.now), act.Spawn)
    scene.broker.bundle(spawn.sandbox, SPEC, "b", scene.now)
    scene.broker.up(spawn.sandbox, scene.now)
    (said,) = of(scene.broker.broken(spawn.sandbox, fault, reason, scene.now), act.SayReturned)
    assert (said.fault, said.reason) == (fault, reason)
    assert scene.broker.granted(scene.now) == (4, 0)


def test_an_attempt_that_waits_for_its_sandbox_lends_its_slot_to_what_is_warm() -> None:
    scene = Scene(slots=2, max_warm=4)
    warm = [scene.run((call, 1), KEYS[1]) for call in (1, 2)]
    for call, box in zip((1, 2), warm, strict=True):
        scene.done(box, (call, 1))
    making = []
    for call in (3, 4):
        (spawn,) = of(scene.broker.prepare((call, 1), KEY, scene.now), act.Spawn)
        making.append(spawn.sandbox)
    # No other sandbox is made for these slots; those there are may be used.
    assert scene.broker.granted(scene.now) == (0, 2)
    assert scene.broker.prepare((5, 1), KEY, scene.now) == [act.SayReturned((5, 1))]
    (job,) = of(scene.start((6, 1), KEYS[1]), act.SendJob)
    assert scene.broker.granted(scene.now) == (0, 1)
    # The first that is ready has the slot that is left, the second gets the next one.
    ready = [of(scene.works(_made(scene, box)), act.SayReady) for box in making]
    assert ready == [[act.SayReady((3, 1))], []]
    assert scene.broker.granted(scene.now) == (0, 0)
    assert of(scene.start((7, 1), KEYS[1]), act.SayReturned) == [act.SayReturned((7, 1))]
    assert of(scene.done(job.sandbox, (6, 1)), act.SayReady) == [act.SayReady((4, 1))]
    assert scene.broker.granted(scene.now) == (0, 0)


def test_who_waits_too_long_for_the_slot_that_was_lent_goes_elsewhere() -> None:
    scene = Scene(slots=1)
    box = scene.run((1, 1), KEYS[1])
    scene.done(box, (1, 1))
    (spawn,) = of(scene.broker.prepare((2, 1), KEY, scene.now), act.Spawn)
    scene.start((3, 1), KEYS[1])
    assert of(scene.works(_made(scene, spawn.sandbox)), act.SayReady) == []
    scene.now += HELD_S
    assert of(scene.broker.tick(scene.now), act.SayReturned) == []
    scene.now += 0.1
    assert of(scene.broker.tick(scene.now), act.SayReturned) == [act.SayReturned((2, 1))]
    # Its sandbox was not made in vain.
    assert scene.broker.pool.counts() == {KEY: 1}
    scene.done(box, (3, 1))
    assert scene.broker.granted(scene.now) == (1, 0)


def _made(scene: Scene, box: str) -> list[Action]:
    """Let a sandbox that was spawned have all it needs."""
    orders = scene.broker.bundle(box, SPEC, "b", scene.now)
    return orders + scene.broker.up(box, scene.now)


def test_a_start_whose_slot_was_lent_meanwhile_is_returned() -> None:
    scene = Scene(slots=1)
    box = scene.run((1, 1), KEYS[1])
    scene.done(box, (1, 1))
    scene.broker.prepare((2, 1), KEY, scene.now)
    scene.start((3, 1), KEYS[1])
    assert of(scene.start((2, 1)), act.SayReturned) == [act.SayReturned((2, 1))]
    assert scene.broker.running() == [(3, 1)]


def test_calls_ahead_only_behind_fast_ones_and_not_behind_a_long_head() -> None:
    scene = Scene(slots=1)
    for call in range(1, 4):
        box = scene.run((call, 1))
        scene.done(box, (call, 1), ms=0.1)
    scene.run((4, 1))
    assert scene.broker.places_ahead(scene.now) == {KEY: 9}
    (job,) = of(scene.start((5, 1)), act.SendJob)
    assert job.sandbox == box
    assert scene.broker.book.in_use == 1
    assert scene.broker.places_ahead(scene.now) == {KEY: 8}
    assert scene.broker.places_ahead(scene.now + 0.006) == {}
    scene.now += 0.006
    assert scene.start((6, 1)) == [act.SayReturned((6, 1))]
    assert of(scene.done(box, (4, 1)), act.End)
    assert scene.broker.book.in_use == 1


def fast(scene: Scene) -> str:
    """Teach a node that the function is fast; return the sandbox that it has."""
    for call in range(101, 111):
        box = scene.run((call, 1))
        scene.done(box, (call, 1), ms=0.1)
    return box


def test_what_waits_behind_a_head_that_turns_out_slow_is_recalled_once() -> None:
    scene = Scene(slots=1)
    box = fast(scene)
    scene.start((1, 1))
    scene.start((2, 1))
    assert scene.broker.recall(scene.now + RECALL_S) == []
    scene.now += RECALL_S + 0.001
    assert scene.broker.recall(scene.now) == [act.Recall(box)]
    assert scene.broker.recall(scene.now + 1) == []
    returned = scene.broker.returned(box, (2, 1), scene.now)
    assert returned == [act.SayReturned((2, 1), owed=True)]
    # Nobody else is put behind the next one at once.
    assert of(scene.done(box, (1, 1), ms=30), act.End)
    scene.start((3, 1))
    assert scene.broker.places_ahead(scene.now) == {}


def test_a_head_that_only_its_machine_made_slow_says_nothing_of_its_function() -> None:
    scene = Scene(slots=1)
    box = fast(scene)
    before = scene.broker.speeds.held(KEY)
    assert before > 1
    for call, ran_ms, held in ((1, 0.1, before), (3, 30.0, 1), (5, 0.1, 1)):
        scene.start((call, 1))
        scene.start((call + 1, 1))
        scene.now += RECALL_S + 0.001
        assert scene.broker.recall(scene.now) == ([act.Recall(box)] if call < 5 else [])
        scene.broker.returned(box, (call + 1, 1), scene.now)
        scene.done(box, (call, 1), ms=30, ran_ms=ran_ms)
        assert scene.broker.speeds.held(KEY) == held


def test_a_head_that_nothing_waits_behind_is_left_alone() -> None:
    scene = Scene()
    scene.run((1, 1))
    assert scene.broker.recall(scene.now + 3) == []


def test_a_dead_miniworker_loses_what_its_agent_had_and_returns_the_rest() -> None:
    scene = Scene(slots=1)
    box = fast(scene)
    for call in (1, 2, 3):
        scene.start((call, 1))
    # Ten before, then two of these: the last word on the second one was not read.
    orders = scene.broker.exited(box, "signal 9", scene.now, handed=12)
    assert [end.id for end in of(orders, act.End)] == [(1, 1), (2, 1)]
    assert of(orders, act.SayReturned) == [act.SayReturned((3, 1), owed=True)]


def test_a_dead_miniworker_of_which_nothing_is_known_loses_all_it_was_given() -> None:
    scene = Scene(slots=1)
    box = fast(scene)
    scene.start((1, 1))
    scene.start((2, 1))
    orders = scene.broker.exited(box, "signal 9", scene.now)
    assert [end.outcome.status for end in of(orders, act.End)] == [Status.LOST] * 2
    assert not of(orders, act.SayReturned)


def because(scene: Scene, id_: Id, key: str = KEY) -> str:
    """Run a call to its end and return why it was cold, '' if it was not."""
    box = scene.run(id_, key)
    (end,) = of(scene.done(box, id_), act.End)
    assert (end.outcome.start == "cold") == (end.outcome.made is not None)
    return end.outcome.made.because if end.outcome.made else ""


def test_why_a_call_was_cold() -> None:
    scene = Scene(idle_s=60)
    assert because(scene, (1, 1)) == ColdBecause.FIRST
    assert because(scene, (2, 1)) == ""
    scene.now += 61
    scene.works(scene.broker.tick(scene.now))
    assert because(scene, (3, 1)) == ColdBecause.IDLE
    box = scene.run((4, 1))
    scene.broker.exited(box, "signal 9", scene.now)
    assert because(scene, (5, 1)) == ColdBecause.DIED
    box = scene.run((6, 1))
    scene.broker.broken(box, Fault.NONE, WHY, scene.now)
    assert because(scene, (7, 1)) == ColdBecause.DIED
    assert because(scene, (8, 1), "default/f@2.1") == ColdBecause.REVISION
    assert because(scene, (9, 1), "other/f@1.1") == ColdBecause.FIRST


def test_cold_because_all_are_in_use_or_the_last_one_made_room() -> None:
    scene = Scene(slots=2, max_warm=2)
    box = scene.run((1, 1))
    assert because(scene, (2, 1)) == ColdBecause.BUSY
    scene.done(box, (1, 1))
    assert because(scene, (3, 1), KEYS[1]) == ColdBecause.FIRST
    scene.now += 1
    assert because(scene, (4, 1), KEYS[2]) == ColdBecause.FIRST
    assert because(scene, (5, 1)) == ColdBecause.EVICTED


def test_a_sandbox_that_never_was_ready_is_no_reason() -> None:
    scene = Scene()
    (spawn,) = of(scene.broker.prepare((1, 1), KEY, scene.now), act.Spawn)
    scene.broker.no_bundle(spawn.sandbox, Fault.NODE, WHY, "", scene.now)
    assert because(scene, (2, 1)) == ColdBecause.FIRST


def test_partings_are_bounded() -> None:
    partings = Partings()
    for n in range(MAX_KEYS + 1):
        partings.ready(f"default/f{n}@1.1")
        partings.left(f"default/f{n}@1.1", ColdBecause.IDLE)
    assert partings.because("default/f0@1.1") is ColdBecause.FIRST
    assert partings.because("default/f1@1.1") is ColdBecause.IDLE
    assert repr(partings) == f"<Partings of {MAX_KEYS} keys>"


def test_speeds_are_bounded() -> None:
    speeds = Speeds()
    slow = outcome(5.0, Status.TIMEOUT)
    for n in range(MAX_KEYS + 5):
        speeds.saw(f"default/f{n}@1.1", slow if n == 7 else outcome(0.1))
        speeds.saw(KEY, outcome(0.1))
    assert len(speeds) == MAX_KEYS
    assert speeds.held(KEY) > 1
    # What was forgotten is as if it had never run; what timed out is remembered longer.
    assert speeds.held("default/f0@1.1") == speeds.held("default/f7@1.1") == 1


def making(scene: Scene, id_: Id) -> str:
    """PREPARE on a node on which a package takes 2 s, an installer 3 s, a start 1 s."""
    begin = scene.now
    (spawn,) = of(scene.broker.prepare(id_, KEY, scene.now), act.Spawn)
    box = spawn.sandbox
    scene.broker.up(box, scene.now + 0.1)
    steps = (
        act.Step("fetch", begin, begin + 2),
        act.Step("install", begin + 2, begin + 5),
    )
    scene.broker.bundle(box, SPEC, "b", begin + 5, steps)
    scene.broker.ready(box, begin + 6, load_ms=250)
    scene.now = begin + 6
    return box


def test_what_making_a_sandbox_took() -> None:
    scene = Scene()
    box = making(scene, (1, 1))
    scene.start((1, 1))
    (end,) = of(scene.done(box, (1, 1)), act.End)
    assert end.outcome.made is not None
    assert end.outcome.made.stages == pytest.approx(
        {"fetch": 2000, "install": 3000, "sandbox": 750, "load": 250}
    )
    assert end.outcome.waited_ms == 0


def test_what_a_sandbox_waited_for_its_turn_is_no_part_of_its_making() -> None:
    scene = Scene(starts=1)
    (first,) = of(scene.broker.prepare((1, 1), KEYS[1], scene.now), act.Spawn)
    (second,) = of(scene.broker.prepare((2, 1), KEY, scene.now), act.Spawn)
    begin = scene.now
    for box in (first.sandbox, second.sandbox):
        scene.broker.bundle(box, SPEC, "b", begin + 1, (act.Step("fetch", begin, begin + 1),))
        # Forked when its code was there already: that is waited for too.
        scene.broker.up(box, begin + 3)
    scene.broker.ready(first.sandbox, begin + 7)
    scene.broker.ready(second.sandbox, begin + 9, load_ms=500)
    scene.now = begin + 9
    for id_, key, box, stages in (
        ((1, 1), KEYS[1], first.sandbox, {"fetch": 1000, "sandbox": 6000}),
        ((2, 1), KEY, second.sandbox,
         {"fetch": 1000, "sandbox": 2000 + 1500, "turn": 4000, "load": 500}),
    ):  # fmt: skip
        scene.start(id_, key)
        (end,) = of(scene.done(box, id_), act.End)
        assert end.outcome.made is not None
        assert end.outcome.made.stages == pytest.approx(stages)


def test_only_the_time_that_an_attempt_waited_for_is_its_own() -> None:
    scene = Scene(slots=2)
    begin = scene.now
    (spawn,) = of(scene.broker.prepare((1, 1), KEY, begin), act.Spawn)
    scene.broker.prepare((2, 1), KEY, begin + 3)
    scene.broker.cancel((1, 1), WHY, begin + 3)
    box = spawn.sandbox
    scene.broker.up(box, begin + 3)
    scene.broker.bundle(box, SPEC, "b", begin + 4, (act.Step("fetch", begin, begin + 4),))
    scene.now = begin + 5
    scene.broker.ready(box, scene.now)
    scene.start((2, 1))
    (end,) = of(scene.done(box, (2, 1)), act.End)
    assert end.outcome.made is not None
    assert end.outcome.made.stages == pytest.approx({"fetch": 1000, "sandbox": 1000})


def test_a_start_spends_what_it_says_that_it_spends() -> None:
    scene = Scene(slots=3)
    first, second = scene.run((1, 1)), scene.run((2, 1))
    scene.done(first, (1, 1), ms=0.1)
    (job,) = of(scene.start((3, 1), ahead=True), act.SendJob)
    assert job.sandbox == second
    (job,) = of(scene.start((4, 1)), act.SendJob)
    assert job.sandbox == first
    # The head runs on: what was granted before is there for a while, for others it is not.
    scene.now += LONG_HEAD_S * 2
    assert scene.broker.places_ahead(scene.now) == {}
    (job,) = of(scene.start((7, 1), ahead=True), act.SendJob)
    assert job.sandbox == first
    scene.broker.returned(first, (7, 1), scene.now)
    # Then there is no place any more: a slot and a sandbox do as well.
    scene.now += RECALL_S
    assert scene.start((5, 1), ahead=True) == [act.SayReturned((5, 1))]
    scene.done(first, (4, 1), ms=0.1)
    (job,) = of(scene.start((6, 1), ahead=True), act.SendJob)
    assert job.sandbox == first


def test_what_ever_timed_out_gets_no_calls_ahead() -> None:
    scene = Scene()
    scene.broker.speeds.saw(KEY, outcome(0.01))
    assert scene.broker.speeds.held(KEY) == 16
    scene.broker.speeds.saw(KEY, outcome(0.01, Status.TIMEOUT))
    assert scene.broker.speeds.held(KEY) == 1


def test_large_params_are_fetched_before_the_job_is_sent() -> None:
    scene = Scene()
    scene.prepare((1, 1))
    size = INLINE_BYTES + 1
    assert scene.start((1, 1), size=size) == [act.FetchParams((1, 1), size)]
    (job,) = of(scene.broker.params((1, 1), b"x" * size, scene.now), act.SendJob)
    assert len(job.params) == size


def test_params_that_cannot_be_had_return_the_attempt_and_free_its_sandbox() -> None:
    scene = Scene()
    scene.prepare((1, 1))
    scene.start((1, 1), size=INLINE_BYTES + 1)
    orders = scene.broker.no_params((1, 1), WHY, scene.now)
    assert of(orders, act.SayReturned)[0].fault is Fault.NODE
    assert scene.broker.pool.counts() == {KEY: 1}


def test_a_sandbox_of_another_key_is_evicted_the_one_unused_longest() -> None:
    scene = Scene(slots=2, max_warm=2)
    first = scene.run((1, 1), KEYS[0])
    scene.done(first, (1, 1))
    scene.now += 1
    second = scene.run((2, 1), KEYS[1])
    scene.done(second, (2, 1))
    orders = scene.prepare((3, 1), KEYS[2])
    assert of(orders, act.Stop) == [act.Stop(first)]


def test_the_idle_clock_runs_only_while_idle() -> None:
    scene = Scene(idle_s=60)
    box = scene.run((1, 1))
    scene.now += 4
    assert not of(scene.broker.tick(scene.now), act.Stop)
    scene.done(box, (1, 1))
    assert scene.broker.tick(scene.now + 59) == []
    assert scene.broker.tick(scene.now + 60) == [act.Stop(box)]
    assert scene.broker.tick(scene.now + 61 + STOP_S)[0] == act.Kill(
        box, "it did not leave when asked"
    )


def test_install_failure_ends_every_waiting_attempt_of_the_key() -> None:
    scene = Scene()
    one = of(scene.broker.prepare((1, 1), KEY, scene.now), act.Spawn)[0].sandbox
    two = of(scene.broker.prepare((2, 1), KEY, scene.now), act.Spawn)[0].sandbox
    why = Reason(code="install_failed", message="no")
    for box, id_ in ((one, (1, 1)), (two, (2, 1))):
        orders = scene.broker.no_bundle(box, Fault.FUNCTION, why, "log", scene.now)
        assert orders == [act.SayReturned(id_, Fault.FUNCTION, why, "log")]
        # It was not up yet, so it is told to leave as soon as it is.
        assert scene.broker.up(box, scene.now) == [act.Stop(box)]


def test_the_death_of_a_miniworker_loses_what_it_ran_and_nothing_else() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    other = scene.run((2, 1))
    assert scene.broker.dying(box, scene.now) == []
    orders = scene.broker.exited(box, "signal 9", scene.now)
    (end,) = of(orders, act.End)
    assert end.id == (1, 1)
    assert end.outcome.status is Status.LOST
    assert of(orders, act.DropBundle) == [act.DropBundle(box)]
    assert of(scene.done(other, (2, 1)), act.End)


def test_a_prepared_attempt_whose_sandbox_dies_gets_another_and_one_ready() -> None:
    scene = Scene()
    orders = scene.prepare((1, 1))
    box = of(orders, act.Spawn)[0].sandbox
    orders = scene.works(scene.broker.exited(box, "signal 9", scene.now))
    assert of(orders, act.Spawn)
    assert not of(orders, act.SayReady)
    assert of(scene.start((1, 1)), act.SendJob)


def test_last_words_of_a_dying_miniworker_count() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    scene.broker.dying(box, scene.now)
    (end,) = of(scene.done(box, (1, 1)), act.End)
    assert end.outcome.status is Status.DONE
    assert not of(scene.broker.exited(box, "ended", scene.now), act.End)


def test_whose_fault_it_was_is_heard_though_the_end_was_seen_first() -> None:
    scene = Scene()
    box = of(scene.broker.prepare((1, 1), KEY, scene.now), act.Spawn)[0].sandbox
    scene.broker.dying(box, scene.now)
    orders = scene.broker.broken(box, Fault.FUNCTION, WHY, scene.now, "no such module")
    said = act.SayReturned((1, 1), Fault.FUNCTION, WHY, "no such module", owed=False)
    assert of(orders, act.SayReturned) == [said]
    assert of(scene.broker.exited(box, "it ended", scene.now), act.SayReturned) == []
    assert not scene.broker.book.all


def test_what_was_sent_before_a_sandbox_broke_had_not_begun() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    orders = scene.broker.broken(box, Fault.FUNCTION, WHY, scene.now)
    assert of(orders, act.SayReturned) == [act.SayReturned((1, 1), owed=True)]


def test_a_cancel_before_the_start_returns_and_after_it_is_passed_on() -> None:
    scene = Scene()
    scene.prepare((1, 1))
    assert scene.broker.cancel((1, 1), WHY, scene.now)[0] == act.SayReturned((1, 1))
    assert scene.broker.cancel((9, 1), WHY, scene.now) == [act.SayReturned((9, 1))]
    box = scene.run((2, 1))
    assert scene.broker.cancel((2, 1), WHY, scene.now) == [act.SendCancel(box, (2, 1), WHY)]
    scene.now += CANCEL_S + 0.1
    assert isinstance(scene.broker.tick(scene.now)[0], act.Kill)
    assert scene.broker.tick(scene.now) == []
    (end,) = of(scene.broker.exited(box, "killed", scene.now), act.End)
    assert end.outcome.status is Status.CANCELLED
    assert end.outcome.reason == WHY


def test_a_miniworker_that_misses_the_timeout_is_killed_and_the_call_is_a_timeout() -> None:
    scene = Scene()
    box = scene.run((1, 1))
    scene.now += 5 + OVERDUE_S + 0.1
    assert isinstance(scene.broker.tick(scene.now)[0], act.Kill)
    (end,) = of(scene.broker.exited(box, "killed", scene.now), act.End)
    assert end.outcome.status is Status.TIMEOUT


@pytest.mark.parametrize("slept", [False, True])
def test_a_lost_session_drops_what_was_only_prepared(slept: bool) -> None:
    scene = Scene(slots=3)
    scene.prepare((1, 1))
    box = scene.run((2, 1))
    scene.prepare((3, 1))
    scene.start((3, 1), size=INLINE_BYTES + 1)
    orders = scene.broker.session_lost(scene.now, slept=slept)
    expected = [act.SayReturned((3, 1), owed=True)] if slept else []
    assert of(orders, act.SayReturned) == expected
    assert scene.broker.running() == ([(2, 1)] if slept else [(2, 1), (3, 1)])
    assert of(scene.done(box, (2, 1)), act.End)


def test_draining_hands_back_and_lets_run() -> None:
    scene = Scene(slots=3)
    box = scene.run((1, 1))
    scene.prepare((2, 1))
    orders = scene.broker.drain(scene.now)
    assert of(orders, act.SayReturned) == [act.SayReturned((2, 1))]
    assert len(of(orders, act.Stop)) == 1
    assert scene.broker.free == 0
    assert scene.prepare((3, 1)) == [act.SayReturned((3, 1))]
    assert of(scene.done(box, (1, 1)), act.Stop) == [act.Stop(box)]
    assert scene.broker.is_drained


def test_draining_takes_back_what_waits_behind_others_and_resuming_starts_anew() -> None:
    scene = Scene(slots=2)
    scene.broker.speeds.saw(KEY, outcome(0.05))
    box = scene.run((1, 1))
    scene.start((2, 1), ahead=True)
    assert of(scene.broker.drain(scene.now), act.Recall) == [act.Recall(box)]
    assert of(scene.broker.drain(scene.now), act.Recall) == []
    returned = scene.broker.returned(box, (2, 1), scene.now)
    assert of(returned, act.SayReturned) == [act.SayReturned((2, 1), owed=True)]
    scene.broker.resume()
    assert scene.broker.free == 1
    assert of(scene.prepare((3, 1)), act.Spawn)


class BrokerMachine(RuleBasedStateMachine):
    """Any order of events: each attempt is answered once, and no rule is broken on the way."""

    SPEC = SPEC
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(Pool(PoolSettings(max_warm=4, idle_s=5, starts=2)), 3)
        self.now = 0.0
        self.calls = 0
        self.asked: Counter[Id] = Counter()
        self.answers: Counter[Id] = Counter()
        self.sent: Counter[Id] = Counter()
        self.dropped: set[Id] = set()
        self.permitted: set[Id] = set()
        self.recalled: list[tuple[str, Id]] = []
        for key in KEYS:
            # Else hardly any run would put one call behind another.
            self.broker.speeds.saw(key, outcome(0.05))
        #: What each living miniworker was given and has not answered, in order.
        self.minis: dict[str, list[Id]] = {}
        #: How many each was given in its life.
        self.given: Counter[str] = Counter()
        self.serial: dict[Id, int] = {}
        self.told: dict[str, set[str]] = {}

    def carry(self, orders: list[Action]) -> None:
        for order in orders:
            match order:
                case act.Spawn(box):
                    self.minis[box] = []
                    self.told[box] = set()
                case act.SendJob(box, id_):
                    assert id_ in self.permitted, "sent without START"
                    assert self.broker.pool.sandboxes[box].stage is Stage.BUSY
                    self.sent[id_] += 1
                    self.minis[box].append(id_)
                    self.given[box] += 1
                    self.serial[id_] = self.given[box]
                case act.Recall(box):
                    head, *waiting = self.minis[box]
                    assert waiting, "nothing waits there"
                    self.recalled.append((box, head))
                case act.SayReturned(id_) | act.End(id_):
                    if self.asked[id_]:
                        self.answers[id_] += 1

    def pick(self, data: st.DataObject, boxes: list[str]) -> str | None:
        return data.draw(st.sampled_from(sorted(boxes))) if boxes else None

    @rule(target=ids, key=st.sampled_from(KEYS))
    def prepare(self, key: str) -> tuple[Id, str]:
        return self.ask(key)

    def ask(self, key: str) -> tuple[Id, str]:
        self.calls += 1
        id_ = (self.calls, 1)
        self.asked[id_] += 1
        self.carry(self.broker.prepare(id_, key, self.now))
        return id_, key

    @rule(one=ids, size=st.sampled_from([2, 2, 2, INLINE_BYTES + 1]))
    def start(self, one: tuple[Id, str], size: int) -> None:
        id_, key = one
        if self.answers[id_] or id_ in self.dropped:
            return
        self.permitted.add(id_)
        self.carry(self.broker.start(start_of(id_, key, size), b"{}", self.now))

    @rule(target=ids, key=st.sampled_from(KEYS))
    def start_new(self, key: str) -> tuple[Id, str]:
        return self.begin(key)

    def begin(self, key: str, *, ahead: bool = False) -> tuple[Id, str]:
        self.calls += 1
        id_ = (self.calls, 1)
        self.asked[id_] += 1
        self.permitted.add(id_)
        start = start_of(id_, key, ahead=ahead)
        self.carry(self.broker.start(start, b"{}", self.now))
        return id_, key

    @rule(target=ids, key=st.sampled_from(KEYS))
    def run_at_once(self, key: str) -> tuple[Id, str]:
        """PREPARE, let every sandbox get ready, START: most of the time that runs."""
        one = self.ask(key)
        for box in [b for b in self.minis if "ready" not in self.told[b]]:
            self.step(box)
        self.permit(one[0])
        return one

    @rule(target=ids, data=st.data(), count=st.integers(1, 4))
    def crowd(self, data: st.DataObject, count: int) -> Any:
        """Put calls behind one that runs, where the node grants places."""
        places = self.broker.places_ahead(self.now)
        if not places:
            return multiple()
        key = data.draw(st.sampled_from(sorted(places)))
        return multiple(*(self.begin(key, ahead=True) for _ in range(min(count, places[key]))))

    @rule(one=ids)
    def params(self, one: tuple[Id, str]) -> None:
        if one[0] in self.permitted:
            self.carry(self.broker.params(one[0], b"{}", self.now))

    @rule(one=consumes(ids))
    def cancel(self, one: tuple[Id, str]) -> None:
        if not self.answers[one[0]] and one[0] not in self.dropped:
            self.carry(self.broker.cancel(one[0], WHY, self.now))

    @rule(data=st.data())
    def progress(self, data: st.DataObject) -> None:
        """Let a miniworker take its next step: up, bundle, or ready."""
        makes = [b for b in self.minis if "ready" not in self.told[b]]
        box = self.pick(data, makes)
        if box is None:
            return
        told = self.told[box]
        step = next(s for s in ("up", "bundle", "ready") if s not in told)
        queued = self.broker.pool.sandboxes[box].stage is Stage.QUEUED
        if step == "ready" and queued:
            return
        told.add(step)
        if step == "up":
            self.carry(self.broker.up(box, self.now))
        elif step == "bundle":
            self.carry(self.broker.bundle(box, self.SPEC, "b", self.now))
        else:
            self.carry(self.broker.ready(box, self.now))

    @rule(data=st.data())
    def no_bundle(self, data: st.DataObject) -> None:
        box = self.pick(data, [b for b in self.minis if "bundle" not in self.told[b]])
        if box is not None:
            self.carry(self.broker.no_bundle(box, Fault.NODE, WHY, "", self.now))

    @rule(data=st.data(), ms=st.sampled_from([0.05, 0.05, 20.0]))
    def done(self, data: st.DataObject, ms: float) -> None:
        box = self.pick(data, [b for b, queue in self.minis.items() if queue])
        if box is not None:
            id_ = self.minis[box].pop(0)
            self.carry(self.broker.done(box, id_, outcome(ms), (0, 0, 0), b"", self.now))

    @rule(data=st.data())
    def returned(self, data: st.DataObject) -> None:
        box = self.pick(data, [b for b, queue in self.minis.items() if queue])
        if box is not None:
            id_ = self.minis[box].pop()
            self.carry(self.broker.returned(box, id_, self.now))

    @rule(data=st.data())
    def broken(self, data: st.DataObject) -> None:
        box = self.pick(data, list(self.minis))
        if box is not None:
            self.minis[box].clear()
            self.carry(self.broker.broken(box, Fault.NODE, WHY, self.now))

    @rule(data=st.data(), warned=st.booleans(), known=st.booleans())
    def dies(self, data: st.DataObject, warned: bool, known: bool) -> None:
        box = self.pick(data, list(self.minis))
        if box is None:
            return
        if warned:
            self.carry(self.broker.dying(box, self.now))
        queue = self.minis.pop(box)
        # Its head had been handed over, and nothing after it.
        last = self.serial[queue[0]] if queue else self.given[box]
        handed = last if known else None
        orders = self.broker.exited(box, "gone", self.now, handed)
        if known:
            assert set(queue[1:]) <= {order.id for order in of(orders, act.SayReturned)}
            assert not set(queue[:1]) & {order.id for order in of(orders, act.SayReturned)}
        self.carry(orders)

    @rule(later_s=st.sampled_from([0.0, 0.006]))
    def recall(self, later_s: float) -> None:
        self.now += later_s
        self.carry(self.broker.recall(self.now))

    @rule()
    def obey_a_recall(self) -> None:
        """A miniworker reads RECALL, maybe when its next head runs already."""
        if not self.recalled:
            return
        box, _ = self.recalled.pop(0)
        while len(self.minis.get(box, [])) > 1:
            self.carry(self.broker.returned(box, self.minis[box].pop(), self.now))

    @rule(data=st.data())
    def dying(self, data: st.DataObject) -> None:
        box = self.pick(data, list(self.minis))
        if box is not None:
            self.carry(self.broker.dying(box, self.now))

    @rule(slept=st.booleans())
    def session_lost(self, slept: bool) -> None:
        self.dropped |= {id_ for id_ in self.broker.book.all if id_ not in self.permitted}
        self.carry(self.broker.session_lost(self.now, slept=slept))

    @rule(seconds=st.sampled_from([0.01, 1.0, 12.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.carry(self.broker.tick(self.now))

    @invariant()
    def each_is_answered_once_and_sent_once(self) -> None:
        assert all(count == 1 for count in self.answers.values()), self.answers
        assert all(count == 1 for count in self.sent.values()), self.sent
        assert not (set(self.answers) & set(self.broker.book.all))

    @invariant()
    def slots_hold(self) -> None:
        running = sum(1 for queue in self.minis.values() if queue)
        assert running <= self.broker.slots
        book = self.broker.book
        assert 0 <= book.in_use - book.lending <= self.broker.slots
        assert book.lending <= self.broker.slots
        # Nobody waits for READY while there is a slot and his sandbox.
        assert not self.broker.spare or not any(one.box for one in book.lenders())
        heads = [box.queue[0] for box in self.broker.pool if box.queue]
        assert not any(self.broker.book.all[id_].ahead for id_ in heads)

    @invariant()
    def grants_are_what_is_there(self) -> None:
        waiting = [b for b in self.broker.pool if b.stage is Stage.IDLE]
        idle = Counter(b.key for b in waiting if not b.is_generic)
        assert self.broker.pool.counts() == dict(idle)
        assert not any(b.queue for b in self.broker.pool if b.stage is Stage.IDLE)

    @invariant()
    def few_are_made_at_once_and_none_waits_in_vain(self) -> None:
        stages = Counter(box.stage for box in self.broker.pool)
        assert stages[Stage.SPECIALISING] <= 2
        assert not stages[Stage.QUEUED] or stages[Stage.SPECIALISING] == 2

    def teardown(self) -> None:
        """In a fair world everything ends: what waits is served, or its miniworker leaves."""
        for _ in range(50):
            for box in list(self.minis):
                self.step(box)
            for id_ in list(self.broker.book.all):
                self.permit(id_)
            for box, queue in list(self.minis.items()):
                while queue:
                    id_ = queue.pop(0)
                    done = self.broker.done(box, id_, outcome(), (0, 0, 0), b"", self.now)
                    self.carry(done)
        assert not self.broker.book.all
        unanswered = {id_ for id_ in self.asked if not self.answers[id_]} - self.dropped
        assert not unanswered

    def step(self, box: str) -> None:
        if self.broker.pool.sandboxes[box].stage is Stage.STOPPING:
            del self.minis[box]
            self.carry(self.broker.exited(box, "it left", self.now))
            return
        self.told[box] |= {"up", "bundle", "ready"}
        self.carry(self.broker.up(box, self.now))
        self.carry(self.broker.bundle(box, self.SPEC, "b", self.now))
        self.carry(self.broker.ready(box, self.now))

    def permit(self, id_: Id) -> None:
        one = self.broker.book.all.get(id_)
        if one:
            self.permitted.add(id_)
            self.carry(self.broker.start(start_of(id_, one.key), b"{}", self.now))
            self.carry(self.broker.params(id_, b"{}", self.now))


TestBroker = BrokerMachine.TestCase
TestBroker.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
