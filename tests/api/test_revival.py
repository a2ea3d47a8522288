"""What an api learns of an earlier life's calls from the nodes that have them."""

from __future__ import annotations

import msgspec
import pytest

from api.past import Past
from api.phase import Phase
from api.revival import remember
from tests.api.test_dispatch import DONE, Scene, recovered
from wire.liveness import SILENT_S
from wire.messages import Start
from wire.models import Status


@pytest.mark.parametrize("sync", [True, False])
def test_a_node_knows_of_an_attempt_that_the_store_does_not(sync: bool) -> None:
    scene = Scene()
    call = recovered(scene, sync=sync, idempotent=True)
    session = scene.join(running=((7, 2),))
    assert (call.phase, call.attempt, call.node_id) == (Phase.STARTED, 2, "id-node1")
    scene.did(scene.dispatch.judge("requeue", scene.now))
    scene.result(session, 7, attempt=2)
    assert (call.status, call.result) == (Status.DONE, "1")
    scene.credit(session, 1, 1)
    scene.store()
    assert scene.sent(Start) == []


def test_an_older_attempt_than_the_stored_one_is_no_news() -> None:
    scene = Scene()
    call = recovered(scene, node="node1")
    scene.join("node2", running=((7, 1),))
    assert (call.phase, call.node_id) == (Phase.UNDECIDED, "id-node1")


@pytest.mark.parametrize("begins_ms", [0.0, 0.4, 0.6])
@pytest.mark.parametrize("ran_ms", [3.0, 3.3, 3.7])
def test_times_that_a_client_was_told_stay(begins_ms: float, ran_ms: float) -> None:
    scene = Scene()
    session = scene.join()
    told = scene.accept(7)
    scene.now += begins_ms / 1000
    scene.credit(session, 1, 1)
    (start,) = scene.sent(Start)
    scene.now += 1
    outcome = msgspec.structs.replace(DONE, duration_ms=ran_ms)
    scene.result(session, 7, outcome=outcome)
    told_of = told.call()

    later = Scene()
    later.now = scene.now + 50
    call = recovered(later, sync=True)
    call.accepted, call.accepted_ms = told.accepted, told.accepted_ms
    again = later.join(running=((7, 1),))
    remember(call, 1, start.record)
    later.result(again, 7, outcome=outcome)
    assert call.call().started_at == told_of.started_at
    assert call.call().finished_at == told_of.finished_at
    assert call.call().dispatched_at == told_of.dispatched_at
    assert call.call().attempts[0].way == told_of.attempts[0].way == "idle"


def test_a_record_that_is_none_or_of_another_attempt_tells_nothing() -> None:
    scene = Scene()
    call = recovered(scene, node="node1")
    for attempt, record in ((1, b"{"), (1, b"[" * 10_000), (2, b"{}")):
        remember(call, attempt, record)
    assert (call.started, call.attempt) == (None, 1)


def test_nodes_may_tell_of_calls_before_these_are_judged() -> None:
    scene = Scene()
    for sure, call in ((False, recovered(scene, sync=True)), (True, recovered(scene))):
        past = Past()
        past.expect([call], 100.0)
        assert past.is_due(set(), 100.0 + SILENT_S - 0.1) is sure
        assert past.is_due(set(), 100.0 + SILENT_S) is not sure
        assert not past.is_due(set(), 200.0)
