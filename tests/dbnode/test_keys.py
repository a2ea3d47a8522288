"""Idempotency keys in the store: one call each, a day long, at a price that does not grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbnode.desk import Desk
from dbnode.memory import MemoryStore
from dbnode.seals import Layout
from dbnode.store import Store
from dbnode.testing import ForgetfulDisk
from dbnode.tinystore import TinyStore
from tests.dbnode.samples import DONE, record
from wire import errors, records
from wire.models import CallRecord

SMALL = Layout(calls=3, pages=2)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(hours: float) -> str:
    return (NOON + timedelta(hours=hours)).isoformat()


def write(desk: Desk, *some: CallRecord) -> object:
    (answer,) = desk.answer([records.WriteCalls(api="api", epoch=1, records=some)])
    desk.tidy()
    return answer


def find(desk: Desk, key: str) -> int | None:
    (answer,) = desk.answer([records.FindCall(idempotency_key=key)])
    if isinstance(answer, records.CallGot):
        return answer.record.call.call_num
    assert isinstance(answer, errors.UnknownCall)
    return None


@pytest.fixture(params=["memory", "tinydb"])
def desk(request: pytest.FixtureRequest) -> Desk:
    store: Store = (
        MemoryStore() if request.param == "memory" else TinyStore(ForgetfulDisk(), SMALL)
    )
    return Desk(store, "test")


def test_a_key_is_one_calls(desk: Desk) -> None:
    write(desk, record(1, idempotency_key="a"))
    refused = write(desk, record(2), record(3, idempotency_key="a"))
    assert isinstance(refused, errors.Conflict)
    assert "/call/1" in refused.hint
    assert desk.answer([records.GetCall(call_num=2)])[0].__class__ is errors.UnknownCall
    # Within one batch too, and of two requests of one batch.
    twins = [record(4, idempotency_key="b"), record(5, idempotency_key="b")]
    assert isinstance(write(desk, *twins), errors.Conflict)
    asked = [records.WriteCalls(api="api", epoch=1, records=(one,)) for one in twins]
    first, second = desk.answer(asked)
    assert isinstance(first, records.CallsWritten)
    assert isinstance(second, errors.Conflict)
    assert (find(desk, "a"), find(desk, "b"), find(desk, "c")) == (1, 4, None)
    write(desk, record(1, 2, status=DONE, idempotency_key="a"))
    assert find(desk, "a") == 1


def test_a_call_that_was_not_accepted_gives_its_key_back(desk: Desk) -> None:
    write(desk, record(1, idempotency_key="a"))
    done = write(desk, record(1, 2), record(2, idempotency_key="a"))
    assert isinstance(done, records.CallsWritten)
    assert find(desk, "a") == 2


def test_a_key_is_known_for_a_day_at_least() -> None:
    disk = ForgetfulDisk()
    desk = Desk(TinyStore(disk, SMALL), "test")
    for num in range(1, 10):
        hours = {1: 0, 2: 0, 3: 0}.get(num, 23)
        write(desk, record(num, status=DONE, accepted_at=at(hours), idempotency_key=f"k{num}"))
    assert [find(desk, f"k{num}") for num in range(1, 10)] == list(range(1, 10))
    later = [
        record(num, status=DONE, accepted_at=at(25), idempotency_key=f"k{num}")
        for num in (10, 11, 12)
    ]
    write(desk, *later)
    for each in (desk, Desk(TinyStore(disk, SMALL), "test")):
        found = [find(each, f"k{num}") for num in range(1, 13)]
        assert found == [None] * 3 + list(range(4, 13))
    assert disk.list("calls/keys") == [f"{first:010d}.json" for first in (4, 7, 10)]


def test_one_wrong_clock_forgets_nothing() -> None:
    desk = Desk(TinyStore(ForgetfulDisk(), SMALL), "test")
    now = datetime.now(UTC).isoformat()
    for num in range(1, 4):
        write(desk, record(num, status=DONE, accepted_at=now, idempotency_key=f"k{num}"))
    for num in range(4, 10):
        write(desk, record(num, status=DONE, accepted_at="2999-01-01T00:00:00.000Z"))
    assert find(desk, "k1") == 1


def test_the_price_of_a_key_does_not_grow() -> None:
    """As many steps of the disk for the last keyed commit as for the first."""
    disk = ForgetfulDisk()
    desk = Desk(TinyStore(disk, SMALL), "test")
    steps = []
    for num in range(1, 181):
        before = disk.steps
        write(desk, record(num, status=DONE, idempotency_key=f"k{num}"))
        assert find(desk, f"k{num}") == num
        steps.append(disk.steps - before)
    assert sum(steps[-6:]) <= sum(steps[6:12])
