"""The small deciders of the api, by tables: credits, queues, records, catalogue, pages."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import bodies, fates, queries, reading
from api.agenda import Agenda
from api.assembly import Assembly
from api.backlog import Backlog
from api.catalogue import Catalogue
from api.drain import AGAIN_S, MAX_S, Drain
from api.keyed import key_of
from api.leases import Leases
from api.ledger import Ledger, Way
from api.listing import merge
from api.live import Live
from api.moments import iso, wall_ms
from api.outbox import CROWD_RECORDS, Outbox
from api.policy import Offer, warm_first
from api.receipts import Receipts
from api.roster import Roster
from tests.api.model import ModelWorker, live, spec
from wire.errors import BadRequest, ProtocolError, UnknownCall, UnknownFunction
from wire.messages import Outcome, Result, Warm
from wire.models import Call, Fault, Function, Item, Reason, Status
from wire.records import CallsListed, ListCalls

KEY = "default/dice@1.1"
WHY = Reason(code="no_space", message="full")


def test_credits_are_counts_less_what_the_worker_has_not_seen() -> None:
    ledger = Ledger()
    ledger.grant(0, 2, [Warm(KEY, 1, 3)])
    first = ledger.reserve(Way.IDLE, KEY)
    assert (ledger.free, ledger.idle(KEY), ledger.ahead(KEY)) == (1, 0, 3)
    ledger.send(first)
    ledger.send(ledger.reserve(Way.COLD, KEY))
    ledger.send(ledger.reserve(Way.AHEAD, KEY))
    assert (ledger.free, ledger.ahead(KEY), ledger.sent) == (0, 2, 3)
    # The worker counted after the first: the other two still come off.
    ledger.grant(1, 1, [Warm(KEY, 0, 3)])
    assert (ledger.free, ledger.idle(KEY), ledger.ahead(KEY)) == (0, 0, 2)
    ledger.grant(3, 2, [Warm(KEY, 0, 0)])
    assert (ledger.free, ledger.ahead(KEY), list(ledger.warm_keys())) == (2, 0, [])


def test_slots_that_are_lent_are_spent_after_those_that_are_free() -> None:
    ledger = Ledger()
    ledger.grant(0, 1, [Warm(KEY, 3)], lent=1)
    assert (ledger.free, ledger.spare) == (1, 2)
    # A PREPARE lends its slot only when its worker says so.
    ledger.send(ledger.reserve(Way.COLD, KEY))
    assert (ledger.free, ledger.spare) == (0, 1)
    ledger.send(ledger.reserve(Way.IDLE, KEY))
    assert (ledger.free, ledger.spare, ledger.is_spent) == (0, 0, True)
    ledger.grant(2, 0, [Warm(KEY, 2)], lent=1)
    assert (ledger.free, ledger.spare) == (0, 1)


def test_a_reserved_credit_comes_back_a_sent_one_does_not() -> None:
    ledger = Ledger()
    ledger.grant(0, 1, [Warm(KEY, 1)])
    ledger.release(ledger.reserve(Way.IDLE, KEY))
    assert (ledger.free, ledger.idle(KEY)) == (1, 1)
    spend = ledger.reserve(Way.IDLE, KEY)
    ledger.send(spend)
    ledger.release(spend)
    assert ledger.is_spent


def test_a_spend_that_was_counted_before_it_is_sent_is_not_forgotten() -> None:
    ledger = Ledger()
    ledger.grant(0, 2, [Warm(KEY, 2)])
    waiting = ledger.reserve(Way.IDLE, KEY)
    ledger.send(ledger.reserve(Way.IDLE, KEY))
    ledger.grant(1, 1, [Warm(KEY, 1)])
    assert (ledger.free, ledger.idle(KEY)) == (0, 0)
    ledger.send(waiting)
    ledger.grant(2, 1, [])
    assert ledger.free == 1


def offer(session: int, **more: int) -> Offer:
    plain = Offer(session=session, free=0, idle=0, ahead=0, slots=4, attempts=0)
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]  # all are numbers


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([], None),
        ([offer(1)], None),
        ([offer(1, idle=1)], None),
        ([offer(1, lent=2)], None),
        ([offer(1, lent=1, idle=1), offer(2, free=4)], (1, Way.IDLE)),
        ([offer(1, free=1, idle=1)], (1, Way.IDLE)),
        ([offer(1, free=4), offer(2, free=1, idle=1, attempts=3)], (2, Way.IDLE)),
        ([offer(1, free=1, idle=1, attempts=2), offer(2, free=1, idle=1)], (2, Way.IDLE)),
        ([offer(1, free=2), offer(2, ahead=3, attempts=4)], (2, Way.AHEAD)),
        ([offer(1, free=4), offer(2, ahead=9, attempts=9)], (1, Way.COLD)),
        ([offer(1, free=1, attempts=3), offer(2, free=1)], (2, Way.COLD)),
    ],
)
def test_warm_first_with_bounded_load(
    offers: list[Offer], expected: tuple[int, Way] | None
) -> None:
    chosen = warm_first(offers)
    assert (chosen and (chosen[0].session, chosen[1])) == expected


def test_a_node_that_failed_comes_last() -> None:
    failed = Offer(1, free=4, idle=4, ahead=0, slots=4, attempts=0, avoided=True)
    chosen = warm_first([failed, offer(2, free=1, attempts=3)])
    assert chosen is not None
    assert chosen[0].session == 2


def test_the_backlog_is_fair_bounded_and_forgets_cheaply() -> None:
    backlog = Backlog(max_calls=4, max_bytes=100)
    for num in (1, 2, 3):
        backlog.push("a", num, 10)
    backlog.push("b", 4, 10)
    assert not backlog.has_room(1, stays=True)
    assert not backlog.has_room(1)
    assert list(backlog.turns()) == ["a", "b"]
    backlog.served("a")
    assert list(backlog.turns()) == ["b", "a"]
    backlog.remove("a", 2)
    backlog.remove("a", 2)
    backlog.remove("c", 9)
    stays = [backlog.has_room(size, stays=True) for size in (70, 71)]
    assert (len(backlog), stays, backlog.has_room(71)) == (3, [True, False], True)
    backlog.push("a", 2, 10, front=True)
    assert backlog.head("a") == 2
    backlog.remove("b", 4)
    assert not backlog.has("b")


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["new", "back", "out"]))))
def test_calls_that_came_back_lead_in_the_order_of_their_acceptance(
    steps: list[tuple[int, str]],
) -> None:
    backlog = Backlog(max_calls=100, max_bytes=1000)
    fresh: list[int] = []
    back: list[int] = []
    for num, step in steps:
        if step == "out":
            backlog.remove("a", num)
            fresh, back = [n for n in fresh if n != num], [n for n in back if n != num]
        elif num not in fresh + back:
            backlog.push("a", num, 1, front=step == "back")
            (back if step == "back" else fresh).append(num)
        assert backlog.head("a") == next(iter(sorted(back) + fresh), None)
        assert len(backlog) == len(fresh + back)


def test_the_agenda_gives_each_call_one_moment() -> None:
    agenda = Agenda()
    for num in range(100):
        agenda.set(num, 50.0)
    for num in range(1, 100):
        agenda.clear(num)
    agenda.set(0, 5.0)
    agenda.set(200, 7.0)
    assert agenda.take(4.9) == []
    assert agenda.take(6) == [0]
    assert agenda.take(1000) == [200]
    assert repr(agenda) == "<Agenda of 0 calls>"


def test_the_outbox_keeps_the_newest_and_one_batch_under_way() -> None:
    outbox = Outbox(max_records=3, max_bytes=1000)
    outbox.put(1, 1, 10, 0.0)
    outbox.put(1, 2, 20, 0.0)
    outbox.put(2, 1, 10, 0.0)
    assert outbox.take() == [(1, 2), (2, 1)]
    outbox.put(1, 3, 10, 0.0)
    assert outbox.take() == []
    assert outbox.is_full
    outbox.acked()
    assert outbox.take() == [(1, 3)]
    outbox.acked()
    assert (len(outbox), outbox.is_full, outbox.is_idle) == (0, False, True)
    outbox.put(1, 4, 1000, 0.0)
    assert outbox.is_full


def test_a_crowd_in_the_outbox_waits_for_no_clock() -> None:
    outbox = Outbox(max_records=1000, max_bytes=1 << 20)
    for num in range(1, CROWD_RECORDS):
        outbox.put(num, 1, 10, 0.0)
        # The same record once more is no crowd.
        outbox.put(num, 2, 10, 0.0)
    seen = [outbox.is_crowded]
    outbox.put(CROWD_RECORDS, 1, 10, 0.0)
    seen.append(outbox.is_crowded)
    assert len(outbox.take()) == CROWD_RECORDS
    # What is under way does not count: else each record after it would be a batch.
    outbox.put(CROWD_RECORDS + 1, 1, 10, 0.0)
    assert [*seen, outbox.is_crowded] == [False, True, False]


def test_leases_grow_while_used_up_fast_and_come_back_newest_first() -> None:
    leases = Leases()
    assert leases.take() is None
    assert leases.wanted(10.0) == 16
    assert leases.wanted(10.0) is None
    leases.add(1, 16, 10.0)
    assert [leases.take() for _ in range(12)] == list(range(1, 13))
    assert leases.wanted(10.5) == 64
    leases.failed()
    assert leases.wanted(20.0) == 16
    leases.add(17, 16, 20.0)
    assert leases.tails() == [(17, 16), (13, 4)]
    assert leases.take() is None


def test_receipts_have_no_gap() -> None:
    receipts = Receipts()
    assert receipts.done(2) is None
    assert receipts.done(1) == 2
    assert receipts.done(1) is None
    assert receipts.done(3) == 3


def item(seq: int, revision: int = 1, *, deleted: bool = False) -> Item:

    function = msgspec.structs.replace(spec().function, revision=revision)
    return Item(seq=seq, function=function, deleted=deleted)


def test_the_catalogue_pins_answers_and_finds_gaps() -> None:
    catalogue = Catalogue()
    catalogue.load("e", 0, 1, [Item(seq=1, runtime=spec().runtime)])
    with pytest.raises(UnknownFunction):
        catalogue.spec("dice")
    published = catalogue.apply(item(2))
    assert published is not None
    assert (published.after, published.seq, len(published.items)) == (1, 2, 1)
    assert catalogue.apply(item(2)) is None
    assert catalogue.apply(item(4)) is None
    assert catalogue.spec("dice").key == KEY
    catalogue.apply(item(3, 2))
    assert catalogue.spec("dice").key == "default/dice@2.1"
    assert catalogue.spec("dice", 1).key == KEY
    with pytest.raises(UnknownFunction, match="no revision 9"):
        catalogue.spec("dice", 9)
    assert [i.seq for i in catalogue.answer(7, "e", 2).items] == [3]
    for epoch, seq in (("other", 3), ("", 0), ("e", 99)):
        answer = catalogue.answer(7, epoch, seq)
        assert (answer.after, answer.seq, [i.seq for i in answer.items]) == (0, 3, [1, 3])
    pinned = catalogue.answer(7, "e", 3, [KEY, "default/dice@7.1", "nonsense"])
    assert (len(pinned.pinned), pinned.missing) == (2, ("default/dice@7.1", "nonsense"))
    catalogue.apply(item(4, 2, deleted=True))
    assert catalogue.functions() == []
    assert catalogue.pinned("default", "dice", 1, 1) is not None
    assert catalogue.runtimes() == ["python"]


def call(num: int, status: Status = Status.DONE, name: str = "dice") -> Call:
    return Call(
        func_name=name,
        call_num=num,
        status=status,
        id=str(num),
        runtime_name="r",
        revision=1,
        accepted_at="t",
    )


@pytest.mark.parametrize(
    ("query", "stored", "more", "living", "expected", "after"),
    [
        (ListCalls(), [1, 2], False, [2, 3], [1, 2, 3], None),
        (ListCalls(limit=2), [1, 2], True, [3], [1, 2], 2),
        (ListCalls(limit=2), [1, 3], True, [2], [1, 2], 2),
        (ListCalls(order="desc", limit=2), [5, 4], True, [6, 1], [6, 5], 5),
        (ListCalls(order="desc", after=5), [4], False, [6, 5, 3], [4, 3], None),
        (ListCalls(after=1), [2], False, [1], [2], None),
        (ListCalls(function="coin"), [], False, [1], [], None),
        (ListCalls(status=Status.PENDING), [1], False, [1], [], None),
    ],
)
def test_memory_is_laid_over_a_stored_page(
    query: ListCalls,
    stored: list[int],
    more: bool,
    living: list[int],
    expected: list[int],
    after: int | None,
) -> None:
    lives = [live(num) for num in living]
    for each in lives:
        each.status = Status.DONE
    page = merge(query, CallsListed(calls=tuple(map(call, stored)), more=more), lives)
    numbers = [each.num if isinstance(each, Live) else each.call_num for each in page.calls]
    assert numbers == expected
    assert page.next == after


def test_results_come_whole_or_in_parts_and_never_too_large() -> None:
    assembly = Assembly(10)
    end = Outcome(status=Status.DONE)

    def part(*sizes: int, outcome: Outcome | None = None) -> Result:
        params, result, stdout, stderr = sizes
        return Result(
            session=1,
            call=1,
            attempt=1,
            sizes=(params, result, stdout, stderr),
            outcome=outcome,
            number=1 if outcome else 0,
        )

    assert assembly.add(part(0, 2, 0, 0), b"ab") is None
    whole = assembly.add(part(0, 1, 1, 0, outcome=end), b"cd")
    assert whole is not None
    assert (whole.result, whole.stdout) == (b"abc", b"d")
    for _ in range(3):
        assert assembly.add(part(0, 8, 0, 0), b"x" * 8) is None
    whole = assembly.add(part(0, 1, 0, 0, outcome=end), b"x")
    assert whole is not None
    assert (whole.over, whole.result) == (True, b"")
    with pytest.raises(ProtocolError, match="do not fit"):
        assembly.add(part(0, 3, 0, 0), b"x")
    assembly.add(part(0, 3, 0, 0), b"xxx")
    assembly.drop(1)
    assert repr(assembly) == "<Assembly of 0 results>"


def test_a_name_belongs_to_one_living_node() -> None:
    roster = Roster(token="t")
    hello = ModelWorker("node1").hello()

    error = roster.check(hello)
    assert error is not None
    assert error.code == "unauthorized"
    hello = msgspec.structs.replace(hello, token="t")
    assert roster.check(hello) is None
    session = roster.open(b"r", hello)
    assert roster.check(hello) is None
    thief = msgspec.structs.replace(hello, node_id="other")
    error = roster.check(thief)
    assert error is not None
    assert error.code == "conflict"
    assert roster.by_route(b"r", session.number) is session
    assert roster.by_route(b"x", session.number) is None
    roster.close(session.number)
    assert roster.check(thief) is None
    assert list(roster.gone) == ["node1"]


def test_what_follows_from_a_return_and_from_a_death() -> None:
    one = live(1)
    assert fates.of_return(one, Fault.NONE, None) == fates.Again()
    one.faults = 1
    assert fates.of_return(one, Fault.NODE, WHY) == fates.Again(fates.FAULT_BACKOFF_S)
    one.faults = 3
    ended = fates.of_return(one, Fault.NODE, WHY)
    assert isinstance(ended, fates.End)
    assert ended.reason is not None
    assert ended.reason.code == "no_sandbox"
    assert fates.of_return(one, Fault.FUNCTION, WHY) == fates.End(Status.FAILED, WHY)
    assert fates.of_death(one, WHY) == fates.End(Status.LOST, WHY)
    again = live(2, of=spec(idempotent=True))
    again.deaths = 2
    assert fates.of_death(again, WHY) == fates.Again()
    again.deaths = 3
    assert fates.of_death(again, WHY) == fates.End(Status.LOST, WHY)
    retried = live(3, of=spec(retries=1))
    retried.deaths = 1
    assert fates.of_death(retried, WHY) == fates.Again()
    retried.deaths = 2
    assert isinstance(fates.of_death(retried, WHY), fates.End)
    retried.cancel = WHY
    assert fates.of_death(retried, WHY) == fates.End(Status.CANCELLED, WHY)


def test_times_there_and_back() -> None:
    assert iso(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert wall_ms("2023-11-14T22:13:20.007Z") == 1_700_000_000_007


def read_invocation(body: bytes) -> bodies.InvokeFunction:
    read = reading.read(bodies.InvokeFunction, body)
    reading.check_depth(bytes(read.params))
    return read


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b'{"funcName":"dice","color":1}', "color"),
        (b'{"params":{}}', "funcName"),
        (b'{"funcName":"../x"}', "funcName"),
        (b'{"funcName":"dice","params":{"a":01}}', "malformed"),
        (b'{"funcName":"dice","params":"\xff"}', "utf-8"),
        (b'{"funcName":"dice","timeout":0.5}', "timeout"),
        (b'{"funcName":"dice","params":' + b"[" * 300 + b"]" * 300 + b"}", "deeper"),
        (b'{"funcName":"dice","params":' + b"[" * 9999 + b"]" * 9999 + b"}", "fit"),
        (b"[]", "fit"),
        (b"", "fit"),
    ],
)
def test_a_bad_invocation_is_named(body: bytes, hint: str) -> None:
    with pytest.raises(BadRequest, match=hint):
        read_invocation(body)


def test_a_good_invocation_keeps_its_bytes() -> None:
    read = read_invocation(b'{"funcName":"dice","params": {"roll":  "4d6"}}')
    assert bytes(read.params) == b'{"roll":  "4d6"}'
    flat = b"[" + b",".join([b"[]"] * 500) + b"]"
    read = read_invocation(b'{"funcName":"dice","params":' + flat + b"}")
    assert bytes(read.params) == flat


def test_settings_come_as_text() -> None:
    read = reading.read_settings(
        {
            "timeout": "30",
            "memory": "64",
            "idempotent": "true",
            "env": '{"A":"1"}',
            "cpu": "0.5",
        }
    )
    assert (read.timeout, read.memory, read.idempotent, read.cpu) == (30.0, 64, True, 0.5)
    assert read.env == {"A": "1"}
    for bad in ({"memory": "1.5"}, {"env": "no"}, {"colour": "red"}, {"timeout": "nan"}):
        with pytest.raises(BadRequest):
            reading.read_settings(bad)


@pytest.mark.parametrize(
    ("image", "name"),
    [("pythonruntime", "pythonruntime"), ("registry:5000/x/php:8", "php:8"), ("a/b", "b")],
)
def test_a_runtime_is_named_by_its_image(image: str, name: str) -> None:
    assert bodies.name_of(image) == name
    with pytest.raises(BadRequest):
        bodies.name_of("x/@sha256:1")


def test_agents_by_the_first_word() -> None:
    runs = ["python3 test.py", "/usr/bin/node x.js", "php a", "sh -c x", "./run", ""]
    assert [bodies.agent_of(run) for run in runs] == [
        "python", "node", "php", "shell", "none", "none",
    ]  # fmt: skip


def digest(params: bytes, more: bytes = b"") -> str:
    body = read_invocation(b'{"funcName":"dice","params":' + params + more + b"}")
    key = key_of("k", body)
    assert key is not None
    return key.digest


def test_requests_are_the_same_in_any_spelling_and_only_then() -> None:
    assert digest(b'{"a":1,"b":[true]}') == digest(b' { "b" : [ true ], "a" : 1 } ')
    assert digest(b'"\xc3\xbc"') == digest(b'"\\u00fc"')
    assert digest(b"1", b',"timeout":5') == digest(b"1", b',"timeout":5.0')
    large = b"123456789012345678901234567890"
    different = [b"1", b"2", b'"1"', b"[1]", b"1.5", b"1e999", b"-1e999", b"1" * 5000,
                 large, large[:-1] + b"1", b"null", b"{}"]  # fmt: skip
    assert len({digest(params) for params in different}) == len(different)
    assert digest(b"1") != digest(b"1", b',"timeout":5')
    # Deep enough to be looked at closely, with a number that no float can hold.
    deep = b"[" * 150 + b"1e999," + b",".join([b"[]"] * 99) + b"]" * 150
    assert len(digest(deep)) == 32


def waited(prefer: str, **said: str) -> float:
    return queries.wait_s(queries.read_query(queries.WaitQuery, said), prefer)


def test_waits_and_pages_and_numbers() -> None:
    assert waited("") == 0
    assert waited("wait=9", wait="1.5") == 1.5
    assert waited("respond-async, wait=10") == 10
    assert waited("wait=9999") == 300
    for bad in ("-1", "301", "nan", "x"):
        with pytest.raises(BadRequest, match="wait"):
            waited("", wait=bad)
    good = {"limit": "5", "status": "DONE"}
    assert queries.read_query(queries.CallsQuery, good).limit == 5
    for query in ({"limit": "0"}, {"limit": "1001"}, {"status": "GONE"}, {"colour": "red"}):
        with pytest.raises(BadRequest, match=next(iter(query))):
            queries.read_query(queries.CallsQuery, query)
    assert queries.read_path(queries.CallPath, {"num": "7"}).num == 7
    for text in ("0", "x", "-1", "1" * 40, "²"):
        with pytest.raises(UnknownCall):
            queries.read_path(queries.CallPath, {"num": text})


def test_a_patch_says_what_changes_and_null_is_the_default() -> None:
    assert reading.read_patch(b'{"timeout": 9, "memory": null}') == {
        "timeout": 9.0,
        "memory": 256,
    }
    assert reading.read_patch({"cpu": "null", "env": '{"A": "1"}'}) == {
        "cpu": None,
        "env": {"A": "1"},
    }
    assert reading.read_patch(b"{}") == {}
    for bad in (b'{"colour": 1}', b'{"entry": ""}', b'{"entry": "a.b", "run": "x"}', b"[]"):
        with pytest.raises(BadRequest):
            reading.read_patch(bad)
    for field in ({"timeout": ""}, {"run": ""}, {"env": ""}, {"colour": "red"}):
        with pytest.raises(BadRequest, match=r"does not fit|no JSON object"):
            reading.read_patch(field)


def test_entry_and_run_replace_each_other() -> None:
    before = Function(function_name="f", runtime_name="r", revision=3, run="sh x", id="i")
    after = reading.patched(before, {"entry": "a.b"}, None, "t1")
    assert (after.entry, after.run, after.updated_at) == ("a.b", None, "t1")
    after = reading.patched(after, {"run": "x"}, None, "t2")
    assert (after.entry, after.run) == (None, "x")
    assert reading.patched(after, {"run": None}, None, "t3").run is None


def test_every_setting_can_be_patched() -> None:
    settings = {field.encode_name for field in msgspec.structs.fields(bodies.FunctionSettings)}
    patch = {field.encode_name for field in msgspec.structs.fields(bodies.FunctionPatch)}
    assert settings | {"image"} == patch


def test_who_finds_the_queue_full_is_told_when_a_tenth_of_it_will_have_gone() -> None:
    drain = Drain()
    assert drain.is_due(0.0)
    assert drain.retry_after_s(100) == AGAIN_S
    for second in range(30):
        assert drain.is_due(float(second))
        drain.saw(50 * second, float(second))
        assert not drain.is_due(second + 0.5)
    assert drain.rate == 50
    assert drain.retry_after_s(10_000) == 20
    assert drain.retry_after_s(1_000_000) == MAX_S
    assert drain.retry_after_s(3) == 1
    for second in range(30, 45):
        drain.saw(1450, float(second))
    assert drain.retry_after_s(100) == AGAIN_S


@pytest.mark.parametrize("opening", [b"[", b'{"":'])
def test_params_may_have_many_brackets_but_not_deep_ones(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    most = reading.MAX_DEPTH
    reading.check_depth(opening * most + b"0" + closing * most)
    reading.check_depth(b"[" + b",".join([opening + b"0" + closing] * 5000) + b"]")
    reading.check_depth(b'"' + b"[{" * 5000 + b'"')
    with pytest.raises(BadRequest):
        reading.check_depth(opening * (most + 1) + b"0" + closing * (most + 1))
