"""What is no longer kept goes, and nothing else does, whatever the disk does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dbnode.calls import KEY_KNOWN_MS, Entry
from dbnode.desk import Desk
from dbnode.opening import opened
from dbnode.retention import LOOK, STEP, Look, Retention
from dbnode.seals import Layout
from dbnode.testing import Crash, ForgetfulDisk, Kept
from dbnode.tinystore import TinyStore
from tests.dbnode.conftest import NewStore
from tests.dbnode.samples import DONE, record
from wire import errors, records
from wire.models import CallRecord, Logs, Status

DAY_MS = 24 * 3600 * 1000
#: 2026-01-31T00:00:00Z
NOW_MS = 1_769_817_600_000
SMALL = Layout(calls=3, pages=2)


def day(number: int) -> str:
    return f"2026-01-{number:02}T00:00:00.000Z"


def ended(num: int, accepted: int = 1, finished: int = 1, **fields: Any) -> CallRecord:
    fields = {"status": DONE, **fields}
    return record(num, accepted_at=day(accepted), finished_at=day(finished), **fields)


def look(retention: Retention, *some: CallRecord) -> set[int]:
    return set(retention.look([Entry(one) for one in some], len(some), NOW_MS).gone)


def test_the_oldest_beyond_a_number_go() -> None:
    some = [ended(num) for num in range(1, 11)]
    assert look(Retention(keep_calls=7), *some) == {1, 2, 3}
    assert look(Retention(keep_calls=10), *some) == set()
    assert look(Retention(keep_calls=0), *some) == set(range(1, 11))


def test_what_ended_long_ago_goes() -> None:
    some = [ended(1, 1, 1), ended(2, 1, 20), ended(3, 2, 2), ended(4, 19, 19), ended(5, 2, 2)]
    # The fifth is not looked at: numbers rise with time, but for clocks that were set back.
    assert look(Retention(keep_for_ms=14 * DAY_MS), *some) == {1, 3}


def test_unfinished_calls_stay() -> None:
    some = [record(1), record(2, status=Status.RUNNING), ended(3)]
    assert look(Retention(keep_calls=0, keep_for_ms=0), *some) == {3}


def test_a_promised_key_stays_known() -> None:
    young = ended(1, 30, 30, idempotency_key="a")
    old = ended(2, 28, 28, idempotency_key="b")
    assert KEY_KNOWN_MS == DAY_MS
    assert look(Retention(keep_calls=0), young, old) == {2}


def test_a_damaged_time_is_not_long_ago() -> None:
    assert look(Retention(keep_for_ms=0), ended(1), record(2, accepted_at="?")) == {1}


@given(
    kinds=st.lists(st.sampled_from(["open", "ended", "keyed"]), max_size=40),
    keep=st.integers(0, 40),
)
def test_so_many_are_left_as_are_kept_or_must_be(kinds: list[str], keep: int) -> None:
    makers: dict[str, Callable[[int], CallRecord]] = {
        "open": record,
        "ended": ended,
        "keyed": lambda num: ended(num, 30, 30, idempotency_key=str(num)),
    }
    some = [makers[kind](num) for num, kind in enumerate(kinds, 1)]
    gone = look(Retention(keep_calls=keep), *some)
    removable = [num for num, kind in enumerate(kinds, 1) if kind == "ended"]
    assert gone == set(removable[: max(len(kinds) - keep, 0)])


def test_looks_are_bounded_and_go_on() -> None:
    many = [Entry(ended(num)) for num in range(1, STEP + 10)]
    first = Retention(keep_calls=0).look(iter(many), len(many), NOW_MS)
    assert first == Look(gone=frozenset(range(1, STEP + 1)), place=STEP)
    waiting = [Entry(record(num)) for num in range(1, LOOK + 10)]
    assert Retention(keep_calls=0).look(iter(waiting), len(waiting), NOW_MS) == Look(place=LOOK)


@pytest.mark.parametrize("kind", ["memory", "tinydb", "sqlite", "postgresql"])
def test_all_that_a_call_held_goes(kind: str, new_store: NewStore) -> None:
    name = new_store(kind)
    with opened(name) as store:
        desk = Desk(store, "test", Retention(keep_calls=1500))
        big: dict[str, Any] = {
            "params": b'"%s"' % (b"p" * 2000),
            "logs": Logs(stdout="o" * 3000),
        }
        some = [ended(num, idempotency_key=f"k{num}", **big) for num in range(1, 2002)]
        for first in range(0, 2001, 500):
            part = tuple(some[first : first + 500])
            (answer,) = desk.answer([records.WriteCalls(api="api", epoch=1, records=part)])
            assert isinstance(answer, records.CallsWritten), answer
        desk.tidy()
        while desk.expire(NOW_MS):
            pass
        assert desk.expired == 501
        check_left(desk)
    if kind != "memory":
        with opened(name) as store:
            check_left(Desk(store, "test"))


def check_left(desk: Desk) -> None:
    listed, counted, gone, left, key, lease = desk.answer(
        [
            records.ListCalls(order="asc", limit=1),
            records.CallCounts(),
            records.GetCall(call_num=501),
            records.GetCall(call_num=502),
            records.FindCall(idempotency_key="k501"),
            records.LeaseCalls(api="api", epoch=1, count=1),
        ]
    )
    assert isinstance(listed, records.CallsListed)
    assert [call.call_num for call in listed.calls] == [502]
    assert counted == records.CallsCounted(counts={"default/dice": 1500})
    assert isinstance(gone, errors.UnknownCall)
    assert isinstance(left, records.CallGot)
    assert left.record.logs == Logs(stdout="o" * 3000)
    assert isinstance(key, errors.UnknownCall)
    assert isinstance(lease, records.CallsLeased)
    assert lease.first > 2001


def filled(disk: ForgetfulDisk) -> None:
    """Write calls on four pages, some sealed; 1 to 5 and 7 to 11 have ended."""
    desk = Desk(TinyStore(disk, SMALL), "test")
    for num in range(1, 13):
        one = record(num) if num in (6, 12) else ended(num, result="r" * 1500)
        desk.answer([records.WriteCalls(api="api", epoch=1, records=(one,))])
        desk.tidy()


def numbers(desk: Desk) -> list[int]:
    """Return the calls that are there; each can be read whole."""
    (listed,) = desk.answer([records.ListCalls(order="asc", limit=1000)])
    assert isinstance(listed, records.CallsListed), listed
    for call in listed.calls:
        (got,) = desk.answer([records.GetCall(call_num=call.call_num)])
        assert isinstance(got, records.CallGot), got
        assert len(got.record.call.result) == (0 if call.call_num in (6, 12) else 1500)
    (counted,) = desk.answer([records.CallCounts()])
    assert counted == records.CallsCounted(counts={"default/dice": len(listed.calls)})
    return [call.call_num for call in listed.calls]


@pytest.mark.parametrize("kept", list(Kept))
def test_a_crash_at_any_step_leaves_calls_whole_or_gone(kept: Kept) -> None:
    keep = Retention(keep_calls=4)
    step = 0
    while True:
        disk = ForgetfulDisk()
        filled(disk)
        step += 1
        disk.crash_at = disk.steps + step
        desk = Desk(TinyStore(disk, SMALL), "test", keep)
        try:
            desk.expire(NOW_MS)
        except Crash:
            again = disk.after_crash(kept)
            desk = Desk(TinyStore(again, SMALL), "test", keep)
            assert set(numbers(desk)) >= {6, 10, 11, 12}
            desk.expire(NOW_MS)
            desk.tidy()
            assert numbers(desk) == [6, 10, 11, 12]
            assert numbers(Desk(TinyStore(again, SMALL), "test")) == [6, 10, 11, 12]
            continue
        assert numbers(desk) == [6, 10, 11, 12]
        names = [name for part in ("open", "sealed") for name in disk.list(f"calls/{part}")]
        assert sorted(names) == ["0000000004.json", "0000000010.json"]
        assert disk.list("calls/content") == ["0000000004", "0000000010"]
        assert disk.list("calls/content/0000000004") == []
        assert step > 10
        return


def test_the_key_of_a_call_that_went_may_be_used_again_also_after_a_start() -> None:
    disk = ForgetfulDisk()
    desk = Desk(TinyStore(disk, SMALL), "test", Retention(keep_calls=6))
    some = (ended(1, idempotency_key="a"), *(ended(num) for num in range(2, 8)))
    desk.answer([records.WriteCalls(api="api", epoch=1, records=some)])
    desk.tidy()
    desk.expire(NOW_MS)
    assert desk.expired == 1
    desk = Desk(TinyStore(disk, SMALL), "test")
    again = record(8, idempotency_key="a")
    (answer,) = desk.answer([records.WriteCalls(api="api", epoch=1, records=(again,))])
    assert isinstance(answer, records.CallsWritten), answer


def test_a_full_disk_removes_nothing_until_there_is_room() -> None:
    disk = ForgetfulDisk()
    filled(disk)
    desk = Desk(TinyStore(disk, SMALL), "test", Retention(keep_calls=4))
    disk.is_full = True
    assert not desk.expire(NOW_MS)
    assert desk.expired == 0
    assert numbers(desk) == list(range(1, 13))
    disk.is_full = False
    desk.expire(NOW_MS)
    assert numbers(desk) == [6, 10, 11, 12]
