"""Replica, results, credits and session: what each decides, without a socket or a clock."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.scripted import EPOCH, KEY, items, package
from wire.messages import (
    CHUNK_BYTES,
    INLINE_BYTES,
    WINDOW_BYTES,
    Catalogue,
    Credit,
    Outcome,
    Refuse,
    Warm,
    Welcome,
    Who,
)
from wire.models import Item, Status, parse_key
from worker.actions import End, Id, SayReturned
from worker.catalogue import Applied, Replica
from worker.credits import Credits
from worker.results import Part, Results
from worker.session import Order, Session

ITEMS = items(package())


def catalogue(
    after: int, seq: int, *rest: Item, epoch: str = EPOCH, **fields: object
) -> Catalogue:
    return Catalogue(session=1, epoch=epoch, after=after, seq=seq, items=rest, **fields)  # type: ignore[arg-type]


# --- catalogue ---


def test_a_replica_follows_drops_and_notices_gaps() -> None:
    replica = Replica()
    assert replica.apply(catalogue(3, 4)) is Applied.GAP
    assert replica.apply(catalogue(0, 2, *ITEMS)) is Applied.CHANGED
    assert replica.apply(catalogue(0, 2, *ITEMS)) is Applied.OLD
    assert replica.apply(catalogue(1, 2, ITEMS[1])) is Applied.OLD
    assert replica.apply(catalogue(3, 4)) is Applied.GAP
    assert (
        replica.apply(catalogue(2, 3, *items(package(), name="g", seq=2)[1:]))
        is Applied.CHANGED
    )
    assert replica.spec("default/g@1.1") is not None
    assert replica.apply(catalogue(2, 4, epoch="other")) is Applied.GAP
    assert replica.is_behind(EPOCH, 4)
    assert replica.is_behind("other", 1)
    assert not replica.is_behind(EPOCH, 3)


@pytest.mark.parametrize(
    "key", ["", "x", "a/b", "default/echo@2.1", "default/echo@1.9", "a/b@x.y"]
)
def test_an_unknown_or_senseless_key_has_no_spec(key: str) -> None:
    replica = Replica()
    replica.apply(catalogue(0, 2, *ITEMS))
    assert replica.spec(key) is None
    assert replica.spec(KEY) is not None


def test_pinned_revisions_come_without_moving_the_replica() -> None:
    replica = Replica()
    message = catalogue(7, 7, pinned=ITEMS, missing=("default/gone@1.1",))
    assert replica.apply(message) is Applied.GAP
    assert (replica.epoch, replica.seq) == ("", 0)
    spec = replica.spec(KEY)
    assert spec is not None
    assert parse_key(spec.key) == parse_key(KEY)
    assert replica.is_missing("default/gone@1.1")


def test_a_deleted_function_can_still_be_run_by_those_who_are_pinned_to_it() -> None:
    replica = Replica()
    replica.apply(catalogue(0, 2, *ITEMS))
    gone = Item(seq=3, function=ITEMS[1].function, deleted=True)
    replica.apply(catalogue(2, 3, gone))
    assert replica.spec(KEY) is not None


# --- results ---


def end(call: int, payload: bytes = b"out", params: bytes = b"{}") -> End:
    outcome = Outcome(status=Status.DONE)
    return End((call, 1), outcome, (len(payload), 0, 0), payload, b"rec", params)


def test_results_are_kept_renumbered_and_repeated_with_record_and_params() -> None:
    results = Results()
    results.open(1)
    results.hold(end(1))
    results.hold(end(1, b"a second end changes nothing"))
    results.hold(end(2))
    sent = list(results.take())
    assert [(r.number, r.sizes, r.record, p) for r, p in sent] == [
        (1, (0, 3, 0, 0), b"", b"out"),
        (2, (0, 3, 0, 0), b"", b"out"),
    ]
    assert results.recorded(1) == [(1, 1)]
    results.lost()
    results.hold(end(3))
    assert list(results.take()) == []
    results.open(2)
    sent = list(results.take())
    assert [(r.call, r.number, r.session, r.sizes, r.record) for r, _ in sent] == [
        (2, 1, 2, (2, 3, 0, 0), b"rec"),
        (3, 2, 2, (2, 3, 0, 0), b"rec"),
    ]
    results.hold(end(4))
    assert [r.record for r, _ in results.take()] == [b""]
    assert results.recorded(3) == [(2, 1), (3, 1), (4, 1)]
    assert len(results) == 0


def test_an_owed_answer_is_said_once() -> None:
    results = Results()
    results.owe(SayReturned((1, 1), owed=True))
    assert [answer.id for answer in results.owed()] == [(1, 1)]
    assert results.owed() == []


def joined(parts: list[Part]) -> tuple[bytes, bytes, bytes, bytes]:
    channels = [b""] * 4
    for result, payload in parts:
        at = 0
        for i, size in enumerate(result.sizes):
            channels[i] += payload[at : at + size]
            at += size
        assert at == len(payload)
    return channels[0], channels[1], channels[2], channels[3]


@given(sizes=st.tuples(*[st.integers(0, 3 * CHUNK_BYTES)] * 4), repeated=st.booleans())
def test_whatever_is_cut_joins_again(sizes: tuple[int, int, int, int], repeated: bool) -> None:
    params, *rest = (bytes([65 + i]) * size for i, size in enumerate(sizes))
    results = Results()
    whole = End(
        (1, 1), Outcome(status=Status.DONE), (sizes[1], sizes[2], sizes[3]),
        b"".join(rest), b"rec", params,
    )  # fmt: skip
    if not repeated:
        results.open(1)
    results.hold(whole)
    if repeated:
        results.open(1)
    parts = list(results.take())
    assert joined(parts) == (params if repeated else b"", *rest)
    assert all(len(payload) <= INLINE_BYTES for _, payload in parts)
    assert [result.number for result, _ in parts] == [0] * (len(parts) - 1) + [1]


def test_the_window_holds_back_and_opens() -> None:
    results = Results()
    results.open(1)
    for call in range(1, 5):
        results.hold(end(call, bytes(3 << 20)))
    first = list(results.take())
    sent = sum(len(payload) for _, payload in first)
    assert WINDOW_BYTES - CHUNK_BYTES < sent <= WINDOW_BYTES
    assert list(results.take()) == []
    results.received(sent)
    rest = list(results.take())
    assert sum(len(payload) for _, payload in first + rest) == 12 << 20
    assert [result.number for result, _ in first + rest if result.outcome] == [1, 2, 3, 4]


@given(
    st.lists(st.sampled_from(["hold", "take", "open", "lost", "record"]), max_size=40),
    st.randoms(),
)
def test_an_end_is_held_until_it_is_recorded(steps: list[str], chance: random.Random) -> None:
    results = Results()
    held: set[Id] = set()
    numbers: dict[int, Id] = {}
    session = 0
    for call, step in enumerate(steps, start=1):
        if step == "hold":
            results.hold(end(call))
            held.add((call, 1))
        elif step == "open":
            session += 1
            numbers = {}
            results.open(session)
        elif step == "lost":
            results.lost()
        elif step == "take":
            for result, _ in results.take():
                assert result.session == session
                assert result.number == len(numbers) + 1
                numbers[result.number] = (result.call, result.attempt)
        elif numbers:
            upto = chance.randint(1, len(numbers))
            gone = {numbers[number] for number in range(1, upto + 1)}
            results.recorded(upto)
            held -= gone
        assert set(results.ids()) == held


# --- credits ---


def test_credits_name_what_changed_and_what_was_spent() -> None:
    credits_ = Credits()

    def given_now(free: int, **idle: int) -> Credit | None:
        return credits_.next(1, free, idle, {}, 1000)

    first = given_now(2)
    assert first is not None
    assert (first.seen, first.free, first.warm) == (0, 2, ())
    assert given_now(2) is None
    credits_.spent("k", 10)
    second = given_now(1)
    assert second is not None
    assert (second.seen, second.warm) == (1, (Warm("k", 0),))
    third = given_now(2, k=1)
    assert third is not None
    assert third.warm == (Warm("k", 1),)
    assert given_now(2, k=1) is None
    # Spent and there again: the api has subtracted, so it must be said.
    credits_.spent("k", 10)
    again = given_now(2, k=1)
    assert again is not None
    assert again.warm == (Warm("k", 1),)
    gone = given_now(2)
    assert gone is not None
    assert gone.warm == (Warm("k", 0),)
    credits_.received += 1000
    window = given_now(2)
    assert window is not None
    assert (window.received, window.warm) == (1020, ())
    credits_.restart()
    fresh = given_now(2, k=1)
    assert fresh is not None
    assert (fresh.seen, fresh.received, fresh.warm) == (0, 0, (Warm("k", 1),))


def test_a_start_on_an_idle_sandbox_spends_what_is_free_before_what_is_lent() -> None:
    credits_ = Credits()

    def given_now(free: int, lent: int, idle: int) -> Credit | None:
        return credits_.next(1, free, {"k": idle}, {}, 1000, lent=lent, eager=False)

    first = given_now(1, 1, 3)
    assert first is not None
    assert (first.free, first.lent) == (1, 1)
    # What the api took off by itself it need not hear.
    credits_.spent("k", 0, "idle")
    assert given_now(0, 1, 2) is None
    credits_.spent("k", 0, "idle")
    assert given_now(0, 0, 1) is None
    again = given_now(0, 1, 1)
    assert again is not None
    assert (again.free, again.lent) == (0, 1)


# --- session ---

WELCOME = Welcome(session=7, api="api", epoch=EPOCH, seq=0)


def opened(now: float = 0.0) -> Session:
    session = Session()
    assert session.tick(now) == [Order.HELLO]
    assert session.answer(WELCOME, now) == [Order.OPENED]
    return session


def test_hello_is_said_again_with_growing_pauses() -> None:
    session = Session()
    said = [at / 10 for at in range(300) if session.tick(at / 10)]
    pauses = [b - a for a, b in pairwise(said)]
    assert pauses[0] == pytest.approx(1.0)
    assert pauses[-1] == pytest.approx(5.0)
    assert pauses == sorted(pauses)


def test_a_silent_api_loses_the_session() -> None:
    session = opened()
    for at in range(1, 9):
        assert session.tick(float(at)) == []
    assert session.heard(7, 8.5)
    assert not session.heard(6, 9.9)
    for at in range(9, 18):
        assert session.tick(float(at)) == []
    assert session.tick(18.6) == [Order.LOST, Order.HELLO]
    assert not session.heard(7, 18.7)


def test_a_process_that_stood_still_gives_up_its_session() -> None:
    session = opened()
    session.tick(1.0)
    assert session.is_late(12.0)
    session.heard(7, 12.0)
    assert session.tick(12.0) == [Order.SLEPT, Order.HELLO]


def test_who_and_refuse_end_a_session_and_a_refusal_is_remembered() -> None:
    session = opened()
    assert session.answer(Who(), 1.0) == [Order.LOST, Order.HELLO]
    assert session.answer(Who(), 1.1) == []
    refuse = Refuse(code="conflict", message="the name is taken")
    assert session.answer(refuse, 1.2) == []
    assert session.refused == refuse
    assert session.tick(1.3) == []
    assert session.answer(WELCOME, 1.4) == [Order.OPENED]
    assert session.answer(WELCOME, 1.5) == []
    assert session.refused is None
