"""A crash or a full disk at every single step: what was acknowledged is there, whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from dbnode.desk import Desk
from dbnode.files import Files
from dbnode.seals import Layout
from dbnode.testing import Crash, ForgetfulDisk, Kept
from dbnode.tinystore import TinyStore, wipe
from tests.dbnode.samples import DICE, DONE, RUNTIME, attempt, record
from wire import errors, records
from wire.models import CallRecord, Logs, Model, Status

SMALL = Layout(calls=3, pages=2)
BIG = "x" * 1500


def written(*some: CallRecord) -> records.WriteCalls:
    return records.WriteCalls(api="api", epoch=1, records=some)


def key(num: int) -> dict[str, Any]:
    return {"idempotency_key": f"key-{num}", "idempotency_digest": "d"} if num % 2 else {}


def history() -> list[list[Model]]:
    """Return batches that touch every kind of file, seal pages and open one again."""
    params = b'"%s"' % BIG.encode()
    batches: list[list[Model]] = [
        [records.OpenApi(api="api"), records.RegisterRuntime(runtime=RUNTIME)],
        [records.RegisterFunction(function=DICE)],
        [records.LeaseCalls(api="api", epoch=1, count=16)],
        [written(*(record(num, params=params, **key(num)) for num in range(1, 6)))],
    ]
    for num in range(1, 6):
        done = record(
            num, 2, params=b"", status=DONE, result=BIG, logs=Logs(stdout="o"), **key(num)
        )
        batches.append([written(done)])
    batches += [
        [
            written(record(7, status=DONE, idempotency_key="seven")),
            written(record(8)),
            written(record(13, idempotency_key="thirteen")),
        ],
        [written(record(1, 3, attempts=(attempt(1, DONE), attempt(2, Status.CANCELLED))))],
        [records.RegisterFunction(function=replace(DICE, timeout=9.0))],
        [written(record(6, logs=Logs(stderr=BIG))), records.DeleteFunction(name="dice")],
        [records.ReturnCalls(api="api", epoch=1, first=14, count=3)],
        [written(record(6, 2, status=Status.FAILED, logs=Logs(stderr=BIG * 2)))],
        # The page of 7 and 8 is sealed with a gap, and the gap is filled.
        [written(record(8, 2, status=DONE))],
        [written(record(9))],
    ]
    return batches


#: How many batches are acknowledged when 16 numbers are leased, and before 3 come back.
LEASED, RETURNED = 3, 13


def dump(desk: Desk) -> dict[str, Any]:
    """Return all that the store knows, read through its front."""
    listed, catalogue, counts, unfinished = desk.answer(
        [
            records.ListCalls(limit=1000),
            records.ReadCatalogue(),
            records.CallCounts(),
            records.UnfinishedCalls(api="api"),
        ]
    )
    assert isinstance(listed, records.CallsListed)
    assert isinstance(catalogue, records.CatalogueRead)
    assert isinstance(counts, records.CallsCounted)
    assert isinstance(unfinished, records.CallsUnfinished)
    assert counts.counts == ({"default/dice": len(listed.calls)} if listed.calls else {})
    running = [call.call_num for call in listed.calls if not call.status.is_terminal]
    assert [each.call.call_num for each in unfinished.records] == running
    gets = desk.answer([records.GetCall(call_num=call.call_num) for call in listed.calls])
    known = {}
    for call, got in zip(listed.calls, gets, strict=True):
        assert isinstance(got, records.CallGot), got
        assert got.record.call == call
        check_key(desk, got.record)
        known[call.call_num] = got.record
    return {"calls": known, "items": catalogue.items}


def check_key(desk: Desk, found: CallRecord) -> None:
    """A record with a key is found by it, whatever page it is on."""
    if found.idempotency_key is not None:
        (by_key,) = desk.answer([records.FindCall(idempotency_key=found.idempotency_key)])
        assert isinstance(by_key, records.CallGot)
        assert by_key.record == found


def ledger_of(desk: Desk) -> dict[str, Any]:
    # The only reading of epochs and numbers is to take the next one.
    opened, leased = desk.answer(
        [records.OpenApi(api="api"), records.LeaseCalls(api="x", epoch=1, count=1)]
    )
    assert isinstance(opened, records.ApiOpened)
    assert isinstance(leased, records.CallsLeased)
    return {"epoch": opened.epoch, "next": leased.first}


def started(disk: ForgetfulDisk) -> Desk:
    return Desk(TinyStore(disk, SMALL), "test")


def run(desk: Desk, done: Callable[[int], None]) -> None:
    for index, batch in enumerate(history()):
        answers = desk.answer(batch)
        assert not [each for each in answers if isinstance(each, errors.SkepError)], answers
        done(index)
        desk.tidy()


def states() -> tuple[list[dict[str, Any]], int]:
    """Return the state after each batch (before all of them first), and all steps."""
    disk = ForgetfulDisk()
    desk = started(disk)
    found = [dump(desk)]
    run(desk, lambda _: found.append(dump(desk)))
    return found, disk.steps


STATES, STEPS = states()


def check_between(found: dict[str, Any], at_least: int) -> None:
    """What is there is what was acknowledged, or that and parts of the next batch."""
    sure = STATES[at_least]
    next_ = STATES[min(at_least + 1, len(STATES) - 1)]
    assert set(sure["calls"]) <= set(found["calls"]) <= set(next_["calls"])
    for num, one in found["calls"].items():
        assert one in (sure["calls"].get(num), next_["calls"].get(num))
    assert found["items"] in (sure["items"], next_["items"])


def test_the_history_touches_all_there_is() -> None:
    disk = ForgetfulDisk()
    run(started(disk), lambda _: None)
    assert disk.list("calls/sealed")
    assert disk.list("calls/open")
    assert len(disk.list("calls/content")) >= 2
    assert len(disk.list("calls/index")) >= 1
    assert len(disk.list("calls/keys")) >= 2


@pytest.mark.parametrize("kept", list(Kept))
def test_a_crash_before_any_step(kept: Kept) -> None:
    for step in range(1, STEPS + 1):
        disk = ForgetfulDisk()
        disk.crash_at = step
        acknowledged = [0]

        def done(index: int, acknowledged: list[int] = acknowledged) -> None:
            acknowledged[0] = index + 1

        with pytest.raises(Crash):
            run(started(disk), done)
        again = disk.after_crash(kept)
        desk = started(again)
        check_between(dump(desk), acknowledged[0])
        numbers = ledger_of(desk)
        if acknowledged[0] >= 1:
            assert numbers["epoch"] == 2
        if LEASED <= acknowledged[0] < RETURNED:
            assert numbers["next"] == 17
        if acknowledged[0] == RETURNED + 1:
            assert numbers["next"] == 14
        # The api sends all again, and life goes on as if nothing had been.
        for batch in history()[3:]:
            renewed = [
                replace(each, epoch=2) if isinstance(each, records.WriteCalls) else each
                for each in batch
            ]
            desk.answer(renewed)
            desk.tidy()
        ended = dump(started(again.after_crash(Kept.NOTHING)))
        ends = {num: one.call for num, one in ended["calls"].items()}
        if acknowledged[0] >= 2:
            assert ends == {num: one.call for num, one in STATES[-1]["calls"].items()}


@pytest.mark.parametrize("kept", list(Kept))
@pytest.mark.parametrize("first", range(STEPS // 2, STEPS, 7))
def test_a_crash_in_the_start_after_a_crash(kept: Kept, first: int) -> None:
    disk = ForgetfulDisk()
    disk.crash_at = first
    acknowledged = [0]
    with pytest.raises(Crash):
        run(started(disk), lambda index: acknowledged.__setitem__(0, index + 1))
    for step in range(1, 100):
        again = disk.after_crash(kept)
        again.crash_at = step
        try:
            started(again)
        except Crash:
            desk = started(again.after_crash(Kept.NOTHING))
            check_between(dump(desk), acknowledged[0])
            continue
        return


@pytest.mark.parametrize("full_for", [1, 3])
def test_a_full_disk_at_any_step_changes_nothing_and_passes(full_for: int) -> None:
    disk = ForgetfulDisk()
    started(disk)
    first = disk.steps
    for step in range(first + 1, STEPS + 1):
        disk = ForgetfulDisk()
        desk = started(disk)
        disk.full_at = range(step, step + full_for)
        before = 0
        for index, batch in enumerate(history()):
            tries = 0
            while isinstance(error := desk.answer(batch)[0], errors.SkepError):
                tries += 1
                assert tries <= full_for
                assert isinstance(error, errors.StoreUnavailable), error
                assert "make room" in error.hint
                assert dump(desk) == STATES[before]
                for kept in Kept:
                    check_between(dump(started(disk.after_crash(kept))), before)
            before = index + 1
            assert dump(desk) == STATES[before]
            assert dump(started(disk.after_crash(Kept.NOTHING))) == STATES[before]
            desk.tidy()
        assert dump(desk) == STATES[-1]
        assert dump(started(disk.after_crash(Kept.NOTHING))) == STATES[-1]


def test_nothing_is_left_over_after_crashes() -> None:
    """Packs that no page names are swept at a start."""
    disk = ForgetfulDisk()
    desk = started(disk)
    run(desk, lambda _: None)
    desk.answer([written(record(14, result=BIG))])
    folder = "calls/content/0000000013"
    (pack,) = disk.list(folder)
    disk.write(f"{folder}/14-feed", b"nobody's")
    disk.write(f"{folder}/14-beef.tmp", b"nobody's")
    started(disk)
    assert disk.list(folder) == [pack]


def test_a_crash_at_any_step_of_a_wipe_is_finished_later() -> None:
    def prepared() -> ForgetfulDisk:
        disk = ForgetfulDisk()
        run(started(disk), lambda _: None)
        Files(disk).write("mine.txt", b"not the store's")
        disk.make_folder("calls/mine")
        disk.sync_folder(".")
        return disk

    steps = 0
    for kept in Kept:
        for step in range(1, 200):
            disk = prepared()
            disk.crash_at = disk.steps + step
            try:
                wipe(disk)
            except Crash:
                steps += 1
                left = disk.after_crash(kept)
                found = dump(started(left))
                assert found == (STATES[0] if left.list("calls/open") == [] else STATES[-1])
                assert left.read("mine.txt") == b"not the store's"
                continue
            assert disk.list(".") == ["calls", "mine.txt"]
            assert disk.list("calls") == ["mine"]
            break
    assert steps > 50


def test_a_full_disk_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again twice a second: so many lines would fill what room there is."""
    caplog.set_level("INFO", logger="dbnode.desk")
    disk = ForgetfulDisk()
    desk = started(disk)
    desk.answer([records.OpenApi(api="api")])
    change: list[Model] = [records.LeaseCalls(api="api", epoch=1, count=1)]
    for _ in range(2):
        caplog.clear()
        disk.is_full = True
        for _ in range(3):
            assert isinstance(desk.answer(change)[0], errors.StoreUnavailable)
        disk.is_full = False
        assert not isinstance(desk.answer(change)[0], errors.StoreUnavailable)
        desk.answer(change)
        assert [line.levelname for line in caplog.records] == ["ERROR", "INFO"]
        assert "make room" in caplog.messages[0]
