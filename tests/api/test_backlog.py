"""The queue of the api: whose turn it is, and whose params leave memory for the store."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from api.actions import Action, Read, Send, Write
from api.backlog import MAX_READS, SMALL_BYTES, Backlog
from api.dispatch import Dispatch
from api.fates import NO_PARAMS
from api.roster import Roster
from tests.api.model import ModelWorker, live, spec
from wire.messages import Credit, Prepare
from wire.models import Status

LARGE = 400


def filled(*nums: int, key: str = "a", memory: int = 2 * LARGE) -> Backlog:
    backlog = Backlog(max_calls=100, max_bytes=memory)
    for num in nums:
        backlog.push(key, num, LARGE, stored=True)
    return backlog


def test_what_came_last_leaves_first_and_only_what_the_store_has() -> None:
    backlog = filled(1, 2, 3, 4)
    backlog.push("b", 5, LARGE)
    assert backlog.overflow() == [4, 3, 2]
    assert (backlog.size, len(backlog)) == (2 * LARGE, 5)
    # Two that may not leave are as much as there is room for.
    assert backlog.has_room(LARGE, stays=True)
    assert not backlog.has_room(LARGE + 1, stays=True)
    backlog.push("b", 6, LARGE)
    # The first of a key stays, its turn may be next; so does what is small.
    assert backlog.overflow() == []
    backlog.loosen("b", 6)
    backlog.push("c", 7, SMALL_BYTES, stored=True)
    backlog.push("c", 8, SMALL_BYTES, stored=True)
    assert backlog.overflow() == [6]


def test_the_first_of_many_keys_take_no_more_than_twice_the_memory() -> None:
    backlog = Backlog(max_calls=100, max_bytes=2 * LARGE)
    for num in range(6):
        backlog.push(f"key{num}", num, LARGE, stored=True)
    assert backlog.overflow() == [5, 4]
    assert backlog.size == 4 * LARGE


def test_the_call_whose_turn_it_is_is_read_whatever_room_there_is() -> None:
    backlog = filled(1, 2)
    backlog.push_away("b", 3, LARGE)
    backlog.push_away("b", 4, LARGE)
    assert backlog.read_ahead() == []
    assert backlog.read_head("a") is None
    assert backlog.read_head("b") == 3
    assert backlog.read_head("b") is None
    backlog.came("b", 3)
    assert backlog.overflow() == [2]
    assert not backlog.is_away("b", 3)
    assert backlog.head("b") == 3


def test_params_are_read_ahead_in_order_of_each_in_turn_while_there_is_room() -> None:
    backlog = Backlog(max_calls=100, max_bytes=3 * LARGE)
    for num in (3, 1, 5):
        backlog.push_away("a", num, LARGE)
    backlog.push_away("b", 4, LARGE)
    assert backlog.read_ahead() == [1, 4]
    backlog.came("a", 1)
    backlog.remove("b", 4)
    backlog.came("b", 4)
    # A quarter stays free for what comes.
    assert backlog.read_ahead() == [3]
    assert backlog.read_ahead() == []
    assert backlog.size == LARGE
    for num in (1, 3, 5):
        backlog.remove("a", num)
    assert (backlog.size, len(backlog), backlog.has_away("a")) == (0, 0, False)


def test_no_more_are_read_at_a_time_than_may() -> None:
    backlog = Backlog(max_calls=1000, max_bytes=1 << 20)
    for num in range(50):
        backlog.push_away(f"key{num}", num, 300)
    assert len(backlog.read_ahead()) == MAX_READS
    assert backlog.read_ahead() == []
    backlog.came("key7", 7)
    assert backlog.read_ahead() == [MAX_READS]


STEPS = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["new", "back", "out", "read", "stored"]))
)


@given(STEPS)
def test_each_byte_is_counted_once_wherever_it_is(
    steps: list[tuple[int, str]],
) -> None:
    backlog = Backlog(max_calls=1000, max_bytes=3 * LARGE)
    there: dict[int, tuple[str, bool, bool]] = {}  # key, stored, away
    for num, step in steps:
        key = "ab"[num % 2]
        if step in ("new", "back") and num not in there:
            backlog.push(key, num, LARGE, front=step == "back", stored=num % 3 > 0)
            there[num] = key, num % 3 > 0, False
        elif step == "out":
            backlog.remove(key, num)
            there.pop(num, None)
        elif step == "stored" and num in there:
            backlog.loosen(key, num)
            there[num] = key, True, there[num][2]
        elif step == "read":
            for each in [*backlog.read_ahead(), *filter(None, [backlog.read_head(key)])]:
                assert there[each][2]
                backlog.came(there[each][0], each)
                there[each] = there[each][0], True, False
        for gone in backlog.overflow():
            assert there[gone][1]
            there[gone] = there[gone][0], True, True
        held = [num for num, (_, _, away) in there.items() if not away]
        stays = [num for num in held if not there[num][1]]
        assert backlog.size == len(held) * LARGE
        heads = {backlog.head("a"), backlog.head("b")} - {None}
        assert backlog.size <= max(3, len({*stays, *heads})) * LARGE
        assert all(backlog.is_away(k, n) == away for n, (k, _, away) in there.items())
        room = 3 * LARGE - len(stays) * LARGE
        assert backlog.has_room(room, stays=True) == (room >= 0)


class Service:
    """Dispatch over one node, a store that answers at once, and who got each slot."""

    def __init__(self, memory: int) -> None:
        roster = Roster()
        backlog = Backlog(max_calls=10_000, max_bytes=memory)
        self.dispatch = Dispatch(roster, backlog, api="api", epoch=1)
        hello = ModelWorker("node1", slots=1000).hello()
        self.session, _ = self.dispatch.hello(b"r", hello, ("e", 1), 1.0)
        self.nums = 0
        self.sent = 0
        self.sizes: dict[int, int] = {}

    def accept(self, name: str, size: int) -> None:
        self.nums += 1
        call = live(self.nums, now=1.0, of=spec(name, idempotent=True))
        call.params = b"1" * size
        self.sizes[self.nums] = size
        assert self.did(self.dispatch.accept(call, 1.0)) == []

    def slot(self) -> str:
        """Free one slot; return the function that gets it."""
        credit = Credit(session=self.session.number, seen=self.sent, free=1)
        (name,) = self.did(self.dispatch.credit(self.session, credit, 1.0))
        self.sent += 1
        return name

    def did(self, actions: list[Action]) -> list[str]:
        names = []
        for action in actions:
            if isinstance(action, Write):
                live_ = action.live
                names += self.did(self.dispatch.durable(live_.num, live_.rev, 1.0))
            elif isinstance(action, Read):
                params = b"1" * self.sizes[action.num]
                names += self.did(self.dispatch.came(action.num, params, 1.0))
            elif isinstance(action, Send) and isinstance(action.message, Prepare):
                call = self.dispatch.calls[action.message.call]
                assert len(call.params) == self.sizes[call.num]
                names.append(call.spec.function.function_name)
        return names


ACCEPTED = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([2, 400, 700])), min_size=1, max_size=40
)


@settings(deadline=None)
@given(st.integers(0, 60), ACCEPTED, st.integers(1, 30), st.sampled_from([2000, 1 << 20]))
def test_a_flood_of_one_function_leaves_the_others_their_share(
    flood: int, accepted: list[tuple[str, int]], later: int, memory: int
) -> None:
    service = Service(memory)
    waiting: Counter[str] = Counter()

    def take(name: str, size: int) -> None:
        service.accept(name, size)
        waiting[name] += 1

    for _ in range(flood):
        take("flood", 700)
    for name, size in accepted:
        take(name, size)
    #: Of each function: which others had a slot since its last, while it waited.
    passed: dict[str, Counter[str]] = {name: Counter() for name in (*"abcd", "flood")}
    for step in range(sum(waiting.values())):
        if step == later:
            take("a", 400)
        name = service.slot()
        waiting[name] -= 1
        assert waiting[name] >= 0
        passed[name].clear()
        for other, count in waiting.items():
            if other != name and count:
                passed[other][name] += 1
                # One that waits is passed by no other twice, but once more while its
                # params are read.
                limit = 1 if memory > flood * 700 + 40_000 else 2
                assert passed[other][name] <= limit, (other, name)


def test_a_call_whose_params_are_gone_for_good_says_so_and_holds_up_nobody() -> None:
    service = Service(1000)
    for _ in range(4):
        service.accept("a", 700)
    assert service.slot() == "a"
    call = service.dispatch.calls[2]
    assert call.away is not None or call.params
    gone = next(each for each in service.dispatch.calls.values() if each.away is not None)
    service.did(service.dispatch.came(gone.num, None, 2.0))
    assert (gone.status, gone.reason) == (Status.FAILED, NO_PARAMS)
    assert [service.slot() for _ in range(2)] == ["a", "a"]
