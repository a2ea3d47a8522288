"""The pure rules by tables: catalogue, ledger, calls, listing, seals, rows."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dbnode import calls, catalogue, ledger, listing, rows
from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.ledger import Lease, Ledger
from dbnode.listing import Tally
from dbnode.seals import Layout
from tests.dbnode.samples import DICE, DONE, RUNTIME, attempt, record
from wire.errors import BadRequest, Conflict, StaleEpoch, UnknownFunction, UnknownRuntime
from wire.models import Logs, Status
from wire.records import (
    DeleteFunction,
    DeleteRuntime,
    LeaseCalls,
    ListCalls,
    ReadCatalogue,
    ReturnCalls,
    UnfinishedCalls,
    WriteCalls,
)

EMPTY = Catalogue(epoch="e")
WITH_RUNTIME, _ = catalogue.register_runtime(EMPTY, RUNTIME)
WITH_DICE, _ = catalogue.register_function(WITH_RUNTIME, DICE)


# The catalogue


def test_the_same_again_changes_nothing_whatever_ids_and_times_say() -> None:
    again = replace(RUNTIME, id="r-2", revision=9, created_at="t1", updated_at="t1")
    after, changed = catalogue.register_runtime(WITH_RUNTIME, again)
    assert after is WITH_RUNTIME
    assert changed.change == "same"
    assert changed.item.seq == 1
    assert changed.item.runtime == replace(RUNTIME, revision=1)


@pytest.mark.parametrize(
    "difference",
    [{"timeout": 6.0}, {"env": {"A": "1"}}, {"entry": "x.y"}, {"memory": 512}, {"retries": 1}],
)
def test_any_difference_is_a_new_revision_of_the_same_function(
    difference: dict[str, Any],
) -> None:
    new = replace(DICE, id="f-2", created_at="t1", updated_at="t1", **difference)
    after, changed = catalogue.register_function(WITH_DICE, new)
    assert (changed.change, changed.item.seq, after.seq) == ("changed", 3, 3)
    kept = replace(new, id="f-1", revision=2, created_at="t0", updated_at="t1")
    assert changed.item.function == kept


def test_a_function_needs_its_runtime() -> None:
    with pytest.raises(UnknownRuntime, match="'py'"):
        catalogue.register_function(EMPTY, DICE)
    gone, _ = catalogue.delete_runtime(WITH_RUNTIME, DeleteRuntime(name="py"))
    with pytest.raises(UnknownRuntime):
        catalogue.register_function(gone, DICE)
    with pytest.raises(UnknownRuntime):
        catalogue.register_function(WITH_RUNTIME, replace(DICE, project="other"))


def test_an_image_needs_no_runtime_and_nothing_else_has_its_own() -> None:
    run = replace(DICE, function_name="run", runtime_name="image", image="debian", package=None)
    after, changed = catalogue.register_function(EMPTY, run)
    assert (changed.change, changed.item.function) == ("created", replace(run, revision=1))
    for wrong in (replace(run, image=None), replace(DICE, image="debian")):
        with pytest.raises(BadRequest, match="image"):
            catalogue.register_function(after, wrong)
    with pytest.raises(BadRequest, match="reserved"):
        catalogue.register_runtime(EMPTY, replace(RUNTIME, name="image"))


def test_a_runtime_in_use_stays_and_the_error_names_its_users() -> None:
    state = WITH_DICE
    for number in range(12):
        new = replace(DICE, function_name=f"f{number:02d}")
        state, _ = catalogue.register_function(state, new)
    with pytest.raises(Conflict, match=r"dice, f00, .*, f08 and 3 more") as caught:
        catalogue.delete_runtime(state, DeleteRuntime(name="py"))
    assert "first" in caught.value.hint


def test_revision_numbers_are_never_given_again() -> None:
    gone, deleted = catalogue.delete_function(WITH_DICE, DeleteFunction(name="dice"))
    assert (deleted.change, deleted.item.deleted, deleted.item.seq) == ("deleted", True, 3)
    again, same = catalogue.delete_function(gone, DeleteFunction(name="dice"))
    assert again is gone
    assert same.change == "same"
    assert same.item == deleted.item
    back, created = catalogue.register_function(gone, replace(DICE, id="f-9"))
    assert created.change == "created"
    assert created.item.function is not None
    assert (created.item.function.revision, created.item.function.id) == (2, "f-9")
    assert back.seq == 4


def test_a_runtime_may_go_when_its_users_are_gone_or_moved() -> None:
    state, _ = catalogue.register_runtime(WITH_DICE, replace(RUNTIME, name="py2"))
    state, _ = catalogue.register_function(state, replace(DICE, runtime_name="py2"))
    state, changed = catalogue.delete_runtime(state, DeleteRuntime(name="py"))
    assert changed.change == "deleted"
    with pytest.raises(Conflict):
        catalogue.delete_runtime(state, DeleteRuntime(name="py2"))


def test_what_never_was_cannot_be_deleted() -> None:
    with pytest.raises(UnknownRuntime):
        catalogue.delete_runtime(EMPTY, DeleteRuntime(name="py"))
    with pytest.raises(UnknownFunction):
        catalogue.delete_function(WITH_RUNTIME, DeleteFunction(name="py"))


@pytest.mark.parametrize(
    ("epoch", "after", "seqs"),
    [
        ("e", 0, [1, 2]),
        ("e", 1, [2]),
        ("e", 2, []),
        ("e", 3, [1, 2]),
        ("other", 1, [1, 2]),
        ("", 0, [1, 2]),
    ],
)
def test_changes_after_a_place_or_everything(epoch: str, after: int, seqs: list[int]) -> None:
    answer = catalogue.read(WITH_DICE, ReadCatalogue(epoch=epoch, after=after))
    assert [item.seq for item in answer.items] == seqs
    assert (answer.epoch, answer.seq) == ("e", 2)
    assert answer.after == (after if epoch == "e" and after <= 2 else 0)


# The ledger


def test_each_start_of_an_api_fences_the_one_before() -> None:
    state, first = ledger.open_api(Ledger(), "a")
    state, second = ledger.open_api(state, "a")
    state, other = ledger.open_api(state, "b")
    assert (first.epoch, second.epoch, other.epoch) == (1, 2, 1)
    with pytest.raises(StaleEpoch, match="epoch 2 writes now"):
        ledger.fence(state, "a", 1)
    assert ledger.fence(state, "a", 2) is state


def test_a_higher_epoch_than_ever_given_is_believed_and_kept() -> None:
    state = ledger.fence(Ledger(), "a", 5)
    assert ledger.open_api(state, "a")[1].epoch == 6


def test_leases_follow_one_another_and_the_tail_of_the_newest_comes_back() -> None:
    state, first = ledger.lease(Ledger(), LeaseCalls(api="a", epoch=1, count=16))
    state, second = ledger.lease(state, LeaseCalls(api="b", epoch=1, count=1024))
    assert (first.first, second.first, second.count) == (1, 17, 1024)
    back = ReturnCalls(api="b", epoch=1, first=20, count=1021)
    state, answer = ledger.give_back(state, back, highest=19)
    assert answer.returned
    assert state == Ledger(
        apis={"a": 1, "b": 1}, next_call=20, newest=Lease(api="b", first=17, count=3)
    )


@pytest.mark.parametrize(
    ("api", "first", "count", "highest", "why"),
    [
        ("a", 20, 13, 0, "the lease is another's"),
        ("b", 10, 23, 0, "it begins before the newest lease"),
        ("b", 20, 12, 0, "it does not end with it"),
        ("b", 20, 14, 0, "it ends behind it"),
        ("b", 20, 13, 20, "one of the numbers is used"),
    ],
)
def test_nothing_else_comes_back(
    api: str, first: int, count: int, highest: int, why: str
) -> None:
    state, _ = ledger.lease(Ledger(), LeaseCalls(api="a", epoch=1, count=16))
    state, _ = ledger.lease(state, LeaseCalls(api="b", epoch=1, count=16))
    request = ReturnCalls(api=api, epoch=1, first=first, count=count)
    after, answer = ledger.give_back(state, request, highest)
    assert not answer.returned, why
    assert after.next_call == 33


def test_a_whole_lease_comes_back_once() -> None:
    state, _ = ledger.lease(Ledger(), LeaseCalls(api="a", epoch=1, count=16))
    request = ReturnCalls(api="a", epoch=1, first=1, count=16)
    state, answer = ledger.give_back(state, request, 0)
    assert answer.returned
    assert state.newest is None
    state, answer = ledger.give_back(state, request, 0)
    assert not answer.returned
    assert ledger.lease(state, LeaseCalls(api="a", epoch=1, count=1))[1].first == 1


def test_numbers_that_records_have_are_never_leased() -> None:
    state = ledger.used(Ledger(), 40)
    assert ledger.lease(state, LeaseCalls(api="a", epoch=1, count=1))[1].first == 41
    assert ledger.used(state, 40) is state


# A call's record


def test_an_unknown_call_is_stored_whole() -> None:
    new = record(rev=7, status=DONE)
    assert calls.merge(None, new) == Entry(new)


def test_unknown_params_are_the_default() -> None:
    merged = calls.merge(None, record(params=b""))
    assert merged is not None
    assert bytes(merged.record.call.params) == b"{}"


@pytest.mark.parametrize("rev", [1, 4, 5])
def test_a_revision_that_is_not_newer_changes_nothing(rev: int) -> None:
    assert calls.merge(Entry(record(rev=5)), record(rev=rev, status=DONE)) is None


def test_a_newer_revision_replaces_all_but_what_it_leaves_out() -> None:
    old = record(params=b"[1]", logs=Logs(stdout="a"), status=Status.RUNNING)
    new = record(rev=2, params=b"", status=Status.PENDING, node="n2")
    merged = calls.merge(Entry(old), new)
    assert merged is not None
    assert merged.record.call.status is Status.PENDING
    assert bytes(merged.record.call.params) == b"[1]"
    assert merged.record.logs == Logs(stdout="a")
    assert merged.held == frozenset()


def test_what_the_store_holds_stays_there_if_it_is_left_out() -> None:
    old = Entry(record(params=b""), frozenset({"params", "logs"}))
    kept = calls.merge(old, record(rev=2, params=b"", status=DONE))
    assert kept is not None
    assert kept.held == {"params", "logs"}
    new = record(rev=2, params=b"[2]", logs=Logs(stderr="e"))
    replaced = calls.merge(old, new)
    assert replaced == Entry(new)


TERMINAL = [status for status in Status if status.is_terminal]


@pytest.mark.parametrize(("old", "new"), list(itertools.product(TERMINAL, Status)))
def test_an_end_is_written_once(old: Status, new: Status) -> None:
    stored = record(
        rev=3, status=old, result="first", finished_at="t1", attempts=(attempt(1, old),)
    )
    late = record(
        rev=4,
        status=new,
        result="late",
        finished_at="t2",
        attempts=(attempt(1, Status.LOST), attempt(2, Status.CANCELLED)),
        logs=Logs(stdout="late"),
    )
    merged = calls.merge(Entry(stored, frozenset({"logs"})), late)
    assert merged is not None
    kept = replace(
        stored,
        rev=4,
        call=replace(stored.call, attempts=(attempt(1, old), attempt(2, Status.CANCELLED))),
    )
    assert merged == Entry(kept, frozenset({"logs"}))


def test_an_attempt_that_ran_may_tell_its_end_and_none_is_lost() -> None:
    stored = record(status=DONE, attempts=(attempt(1), attempt(2, DONE)))
    late = record(rev=2, attempts=(attempt(1, Status.FAILED),))
    merged = calls.merge(Entry(stored), late)
    assert merged is not None
    assert merged.record.call.attempts == (attempt(1, Status.FAILED), attempt(2, DONE))


def test_logs_that_were_missing_may_come_after_the_end() -> None:
    late = record(rev=2, logs=Logs(stdout="x"))
    merged = calls.merge(Entry(record(status=DONE)), late)
    assert merged is not None
    assert merged.record.logs == Logs(stdout="x")


def test_a_call_is_its_apis() -> None:
    with pytest.raises(Conflict, match="belongs to api 'api'"):
        calls.merge(Entry(record()), record(rev=2, api="other"))
    with pytest.raises(BadRequest, match="written by 'other'"):
        calls.check(WriteCalls(api="other", epoch=1, records=(record(),)))


def test_params_have_to_be_text() -> None:
    with pytest.raises(BadRequest, match="params of call 1"):
        calls.check(WriteCalls(api="api", epoch=1, records=(record(params=b'"\xff"'),)))


# Listings and tallies


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, True),
        ({"status": DONE}, True),
        ({"status": Status.LOST}, False),
        ({"function": "dice"}, True),
        ({"function": "default/dice"}, True),
        ({"function": "ice"}, False),
        ({"function": "dice", "status": DONE}, True),
    ],
)
def test_what_a_listing_holds(fields: dict[str, Any], wanted: bool) -> None:
    entry = Entry(record(status=DONE))
    tally = Tally()
    tally.put(None, entry)
    query = ListCalls(**fields)
    assert listing.is_wanted(query, entry) is wanted
    assert listing.may_hold(query, tally) is wanted
    assert not listing.may_hold(UnfinishedCalls(api="api"), tally)


def test_a_page_says_whether_there_are_more() -> None:
    entries = [Entry(record(num)) for num in range(1, 4)]
    for limit, more in ((2, True), (3, False), (4, False)):
        found, has_more = listing.page(ListCalls(limit=limit), entries, lambda e: e.record)
        assert (len(found), has_more) == (min(limit, 3), more)


def test_a_page_is_bounded_in_bytes_but_never_empty() -> None:
    big = "x" * (listing.MAX_ANSWER_BYTES // 2 + 1)
    entries = [Entry(record(num, result=big * num)) for num in range(1, 4)]
    found, more = listing.page(ListCalls(), entries, lambda e: e.record)
    assert (len(found), more) == (1, True)
    found, more = listing.page(ListCalls(), entries[2:], lambda e: e.record)
    assert (len(found), more) == (1, False)


def test_a_tally_follows_a_record_through_its_states() -> None:
    tally = Tally()
    first, then = Entry(record()), Entry(record(status=DONE))
    tally.put(None, first)
    assert (tally.count, tally.unfinished) == (1, 1)
    copy = tally.copy()
    tally.put(first, then)
    assert (tally.count, tally.unfinished, copy.unfinished) == (1, 0, 1)
    assert dict(tally.functions) == {"default/dice": 1}


# Pages and rows

LAYOUT = Layout()
PAGE = LAYOUT.calls


def test_pages_and_their_calls() -> None:
    assert [LAYOUT.page_of(num) for num in (1, 1000, 1001)] == [0, 0, 1]
    assert all(LAYOUT.page_of(LAYOUT.first_of(page)) == page for page in range(5))


@pytest.mark.parametrize(
    ("count", "unfinished", "behind", "ripe"),
    [
        (PAGE, 0, 0, True),
        (PAGE, 1, 5, False),
        (PAGE - 1, 0, 1, False),
        (PAGE - 1, 0, 2, True),
        (0, 0, 2, False),
    ],
)
def test_when_a_page_is_put_away(count: int, unfinished: int, behind: int, ripe: bool) -> None:
    tally = Tally()
    tally.statuses.update({"DONE": count - unfinished, "RUNNING": unfinished})
    assert LAYOUT.is_ripe(tally, 3, 3 + behind) is ripe


SIZES = st.sampled_from([0, 1, rows.INLINE_BYTES, rows.INLINE_BYTES + 1, 5000])


@given(SIZES, SIZES, SIZES | st.none(), st.booleans())
def test_a_record_becomes_a_document_and_itself_again(
    params: int, result: int, logs: int | None, sync: bool
) -> None:
    one = record(
        rev=3,
        params=b'"%s"' % (b"p" * params),
        result="é" * result,
        logs=None if logs is None else Logs(stdout="o" * logs),
        sync=sync,
        attempts=(attempt(1, Status.FAILED),),
    )
    pack = rows.Pack("1-a")
    doc = rows.to_doc(Entry(one), None, pack)
    doc = msgspec.json.decode(msgspec.json.encode(doc))
    brief = rows.brief(doc)
    assert brief.held == set(rows.refs(doc))
    fetched = rows.whole(doc, lambda ref: bytes(pack.bytes[ref[1] : ref[1] + ref[2]]))
    assert fetched == one
    assert len(pack.bytes) > 0 or not brief.held
    # Kept, or written again the same: nothing is written twice.
    for entry in (brief, Entry(one)):
        second = rows.Pack("1-b")
        assert rows.refs(rows.to_doc(entry, doc, second)) == rows.refs(doc)
        assert not second.bytes


def test_params_keep_their_bytes() -> None:
    odd = b'{"a": 1.10, "a": 123456789012345678901234567890,\n "b":"\\u00e9"}'
    doc = rows.to_doc(Entry(record(params=odd)), None, rows.Pack("p"))
    doc = msgspec.json.decode(msgspec.json.encode(doc))
    assert bytes(rows.brief(doc).record.call.params) == odd
