"""Sandboxes that run several calls at once: by scenes, and by the broker's own machine."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.worker.test_broker import KEY, WHY, BrokerMachine, Scene, of, outcome
from wire.messages import INLINE_BYTES, ColdBecause, Outcome
from wire.models import Fault, Function, Reason, Runtime, Spec, Status
from worker import actions as act
from worker.actions import Action, Id
from worker.boxes import Stage
from worker.placing import CANCEL_S, OVERDUE_S

SERVER = Spec(
    function=Function(
        function_name="f", runtime_name="image", image="i", contract="http", revision=1,
        concurrency=3,
    ),
    runtime=Runtime(name="image", image="i", path="/", contract="http", revision=1),
)  # fmt: skip


class ServerScene(Scene):
    """The same with a server."""

    SPEC = SERVER

    def crowd(self) -> str:
        """Have three calls in one sandbox: one that has its slot, and two beside it."""
        box = self.run((1, 1))
        for call in (2, 3):
            (job,) = of(self.start((call, 1), ahead=True), act.SendJob)
            assert job.sandbox == box
        return box

    def fails(self, box: str, id_: Id, how: Outcome) -> list[Action]:
        return self.works(self.broker.done(box, id_, how, (0, 0, 0), b"", self.now))


def test_a_server_has_places_beside_what_runs_however_long_that_is() -> None:
    scene = ServerScene(slots=2)
    box = scene.run((1, 1))
    scene.now += 4
    assert scene.broker.places_ahead(scene.now) == {KEY: 2}
    assert not scene.broker.watches(scene.now)
    for call in (2, 3):
        (job,) = of(scene.start((call, 1), ahead=True), act.SendJob)
        assert job.sandbox == box
    assert scene.broker.free == 1
    assert scene.broker.places_ahead(scene.now) == {}
    assert of(scene.start((4, 1), ahead=True), act.SayReturned)
    # The first to end is not the first that came.
    (end,) = of(scene.done(box, (2, 1)), act.End)
    assert end.outcome.start == "warm"
    assert scene.broker.places_ahead(scene.now) == {KEY: 1}
    scene.done(box, (1, 1))
    assert scene.broker.free == 1
    scene.done(box, (3, 1))
    assert scene.broker.pool.counts() == {KEY: 1}
    assert scene.broker.free == 2


def test_what_would_have_a_sandbox_made_goes_where_there_is_room() -> None:
    scene = ServerScene(slots=2)
    scene.run((1, 1))
    orders = scene.prepare((2, 1))
    assert orders == [act.SayReady((2, 1))]
    assert scene.broker.free == 1
    assert of(scene.start((2, 1)), act.SendJob)


def test_who_stood_beside_others_in_a_server_that_died_goes_elsewhere() -> None:
    scene = ServerScene(slots=2)
    scene.prepare((1, 1))
    for call in (2, 3):
        assert scene.prepare((call, 1)) == [act.SayReady((call, 1))]
    orders = scene.broker.exited("m1", "gone", scene.now)
    assert [order.id for order in of(orders, act.SayReturned)] == [(2, 1), (3, 1)]
    # Whose slot it is has another sandbox made.
    assert of(orders, act.Spawn)
    assert scene.broker.free == 1


def test_large_params_take_a_place_beside_while_they_are_fetched() -> None:
    scene = ServerScene()
    box = scene.run((1, 1))
    orders = scene.start((2, 1), ahead=True, size=INLINE_BYTES + 1)
    assert of(orders, act.FetchParams)
    assert scene.broker.places_ahead(scene.now) == {KEY: 1}
    scene.done(box, (1, 1))
    assert scene.broker.pool.counts() == {}
    assert of(scene.broker.params((2, 1), b"{}", scene.now), act.SendJob)
    assert scene.broker.free == 1


def test_all_that_waited_for_a_server_get_it_and_no_other_is_made() -> None:
    scene = ServerScene(slots=4, starts=1)
    first = scene.broker.prepare((1, 1), KEY, scene.now)
    orders = [*first, *scene.broker.prepare((2, 1), KEY, scene.now)]
    orders += scene.broker.prepare((3, 1), KEY, scene.now)
    ready = of(scene.works(orders), act.SayReady)
    assert {one.id for one in ready} == {(1, 1), (2, 1), (3, 1)}
    assert [b.stage for b in scene.broker.pool].count(Stage.BUSY) == 1
    for call in (1, 2, 3):
        (job,) = of(scene.start((call, 1)), act.SendJob)
        (end,) = of(scene.done(job.sandbox, (call, 1)), act.End)
        assert end.outcome.start == "cold"


def test_a_place_that_becomes_free_is_whose_that_waits() -> None:
    scene = ServerScene(slots=4)
    box = scene.crowd()
    # Another sandbox is made for the fourth, which does not wait for it.
    scene.broker.prepare((4, 1), KEY, scene.now)
    orders = scene.done(box, (2, 1))
    assert of(orders, act.SayReady) == [act.SayReady((4, 1))]


BROKEN_OFF = [
    Outcome(status=Status.TIMEOUT, reason=Reason(code="timeout", message="late")),
    Outcome(status=Status.CANCELLED, reason=WHY),
    Outcome(status=Status.FAILED, reason=Reason(code="no_answer", message="closed")),
]


@pytest.mark.parametrize("how", BROKEN_OFF)
def test_a_call_that_was_broken_off_is_the_last_of_its_sandbox(how: Outcome) -> None:
    scene = ServerScene()
    box = scene.crowd()
    assert not of(scene.fails(box, (2, 1), how), act.Stop)
    assert scene.broker.places_ahead(scene.now) == {}
    assert of(scene.start((4, 1), ahead=True), act.SayReturned)
    # The others end as they would.
    assert not of(scene.done(box, (1, 1)), act.Stop)
    assert of(scene.done(box, (3, 1)), act.Stop) == [act.Stop(box)]
    scene.broker.exited(box, "it left", scene.now)
    (end,) = of(scene.done(scene.run((5, 1)), (5, 1)), act.End)
    assert end.outcome.made
    assert end.outcome.made.because == ColdBecause.BROKEN_OFF


def test_a_call_that_was_refused_is_not() -> None:
    scene = ServerScene()
    box = scene.run((1, 1))
    refused = Reason(code="http_status", message="it answered 500")
    orders = scene.fails(box, (1, 1), Outcome(status=Status.FAILED, reason=refused))
    assert not of(orders, act.Stop)
    assert scene.broker.pool.counts() == {KEY: 1}


def test_one_that_is_late_beside_others_is_noticed_by_its_own_clock() -> None:
    scene = ServerScene()
    box = scene.run((1, 1))
    scene.now += 3
    scene.start((2, 1), ahead=True, timeout_ms=1000)
    scene.now += 1 + OVERDUE_S
    assert not of(scene.broker.tick(scene.now), act.Kill)
    scene.done(box, (1, 1))
    scene.now += 0.1
    (kill,) = of(scene.broker.tick(scene.now), act.Kill)
    assert kill.sandbox == box
    (end,) = of(scene.broker.exited(box, "killed", scene.now), act.End)
    assert end.outcome.status is Status.TIMEOUT
    assert end.outcome.duration_ms == pytest.approx((1 + OVERDUE_S + 0.1) * 1000)


def test_a_cancel_that_is_not_answered_ends_the_sandbox_of_all() -> None:
    scene = ServerScene()
    box = scene.crowd()
    scene.broker.cancel((2, 1), WHY, scene.now)
    scene.now += CANCEL_S + 0.1
    assert len(of(scene.broker.tick(scene.now), act.Kill)) == 1
    ends = of(scene.broker.exited(box, "killed", scene.now), act.End)
    assert {end.id: end.outcome.status for end in ends} == {
        (1, 1): Status.LOST, (2, 1): Status.CANCELLED, (3, 1): Status.LOST,
    }  # fmt: skip


def test_a_node_that_cannot_reach_into_containers_is_good_for_others() -> None:
    scene = ServerScene()
    scene.broker.prepare((1, 1), KEY, scene.now)
    scene.broker.bundle("m1", SERVER, "-", scene.now)
    scene.broker.up("m1", scene.now)
    reason = Reason(code="no_reach", message="it may not enter")
    orders = scene.broker.broken("m1", Fault.NODE, reason, scene.now)
    (returned,) = of(orders, act.SayReturned)
    assert (returned.fault, returned.reason) == (Fault.NODE, reason)
    assert scene.broker.granted(scene.now) == (2, 0)


class ServerMachine(BrokerMachine):
    """Any order of events, where what a sandbox has runs at the same time."""

    SPEC = SERVER

    @rule(data=st.data(), late=st.sampled_from([False, False, True]))
    def done(self, data: st.DataObject, late: bool) -> None:
        box = self.pick(data, [b for b, queue in self.minis.items() if queue])
        if box is not None:
            id_ = data.draw(st.sampled_from(self.minis[box]))
            self.minis[box].remove(id_)
            how = outcome(20.0, Status.TIMEOUT if late else Status.DONE)
            self.carry(self.broker.done(box, id_, how, (0, 0, 0), b"", self.now))

    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        box = self.pick(data, list(self.minis))
        if box is not None:
            handed, ran = self.given[box], self.minis.pop(box)
            orders = self.broker.exited(box, "gone", self.now, handed)
            assert set(ran) <= {order.id for order in of(orders, act.End)}
            self.carry(orders)


TestServers = ServerMachine.TestCase
TestServers.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
