"""Which node gets a call: each policy by tables, all of them by hypothesis, then in scenes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import policy
from api.chooser import Chooser, Nowhere
from api.fleet import Fleet, Wanted, lacking
from api.ledger import Way
from api.policy import Choice, Needs, Offer, needs_of
from api.roster import Roster, Session
from api.telling import why
from api.tries import Blocked, Try
from tests.api.model import ModelWorker, live, spec
from tests.api.room import open_room
from tests.api.test_dispatch import KEY, Scene
from wire.liveness import Pulse
from wire.messages import Prepare, Start, Warm, WorkerHeartbeat
from wire.models import POLICIES, Function, PolicyName, Spec


def offer(session: int, **facts: Any) -> Offer:
    return Offer(
        session, **({"free": 0, "idle": 0, "ahead": 0, "slots": 4, "attempts": 0} | facts)
    )


def place(choice: Choice | None) -> tuple[int, Way] | None:
    return (choice.offer.session, choice.way) if choice else None


def by(name: PolicyName, offers: list[Offer], last: int = 0) -> Choice | None:
    match name:
        case "warm-first":
            return policy.warm_first(offers)
        case "round-robin":
            return policy.round_robin(offers, last)
        case "least-loaded":
            return policy.least_loaded(offers)
        case "random":
            return policy.random(offers, Random(7))


#: A busy node where it is warm, an idle one with a generic sandbox, an idle one with nothing.
WARM = offer(1, free=1, idle=1, attempts=3)
GENERIC = offer(2, free=3, generic=1, attempts=1)
COLD = offer(3, free=4)
FAST = offer(4, ahead=2, attempts=4)


@pytest.mark.parametrize(
    ("name", "offers", "expected"),
    [
        ("warm-first", [COLD, GENERIC, FAST, WARM], (1, Way.IDLE)),
        ("warm-first", [COLD, GENERIC, FAST], (4, Way.AHEAD)),
        ("warm-first", [COLD, GENERIC], (2, Way.COLD)),
        ("warm-first", [COLD, offer(5, free=1, attempts=3)], (3, Way.COLD)),
        # Beyond its fair share and a quarter a place behind a running call is the last resort.
        ("warm-first", [COLD, offer(4, ahead=2, attempts=9)], (3, Way.COLD)),
        ("warm-first", [offer(4, ahead=2, attempts=9), offer(5)], (4, Way.AHEAD)),
        ("round-robin", [WARM, GENERIC, COLD], (1, Way.IDLE)),
        ("least-loaded", [WARM, GENERIC, COLD], (3, Way.COLD)),
        ("least-loaded", [COLD, offer(5, free=1, idle=1)], (5, Way.IDLE)),
        ("least-loaded", [FAST, offer(6, slots=8, free=4, attempts=4)], (6, Way.COLD)),
    ],
)
def test_what_a_policy_prefers(
    name: PolicyName, offers: list[Offer], expected: tuple[int, Way]
) -> None:
    assert place(by(name, offers)) == expected


def test_round_robin_goes_round_and_leaves_out_who_cannot() -> None:
    offers, last, seen = [COLD, offer(5), WARM, GENERIC], 0, []
    for _ in range(5):
        chosen = policy.round_robin(offers, last)
        assert chosen is not None
        last = chosen.offer.session
        seen.append(last)
    assert seen == [1, 2, 3, 1, 2]


def test_random_reaches_every_node_that_can() -> None:
    dice = Random(1)
    drawn = Counter(
        chosen.offer.session
        for _ in range(300)
        if (chosen := policy.random([COLD, offer(5), WARM, GENERIC], dice))
    )
    assert set(drawn) == {1, 2, 3}
    assert min(drawn.values()) > 50


OFFERS = st.lists(
    st.builds(
        Offer,
        session=st.integers(1, 9),
        free=st.integers(0, 2),
        idle=st.integers(0, 2),
        ahead=st.integers(0, 2),
        slots=st.integers(1, 4),
        attempts=st.integers(0, 9),
        avoided=st.booleans(),
        generic=st.integers(0, 1),
    ),
    max_size=6,
    unique_by=lambda offer: offer.session,
)


@given(offers=OFFERS)
def test_among_idle_ones_the_short_way_chooses_as_the_long_one(offers: list[Offer]) -> None:
    idle = [replace(each, free=1, idle=1, avoided=False) for each in offers]
    if idle:
        assert policy.idle_first(idle) == policy.warm_first(idle, 0.0)


@given(name=st.sampled_from(POLICIES), offers=OFFERS, last=st.integers(0, 9))
def test_every_policy_spends_only_what_is_offered_and_always_if_anything_is(
    name: PolicyName, offers: list[Offer], last: int
) -> None:
    chosen = by(name, offers, last)
    able = [one for one in offers if one.way is not None]
    assert (chosen is None) == (not able)
    if chosen is not None:
        assert chosen.offer in able
        assert (chosen.way is not Way.IDLE) or (chosen.offer.idle and chosen.offer.free)
        assert (chosen.way is not Way.AHEAD) or chosen.offer.ahead
        assert (chosen.way is not Way.COLD) or chosen.offer.free
        assert not chosen.offer.avoided or all(one.avoided for one in able)
        assert 1 <= chosen.rivals <= len(able)
        assert why(Try(1, "n", choice=chosen), [])


def session_of(roster: Roster, name: str, **changed: Any) -> Session:
    hello = msgspec.structs.replace(ModelWorker(name).hello(), **changed)
    return roster.open(name.encode(), hello)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "spend", "wake", "sleep", "close"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=25,
)


@given(events=EVENTS)
def test_the_fleet_offers_what_looking_at_every_node_would(
    events: list[tuple[str, int, int, int]],
) -> None:
    """Whatever happened before: what is kept in step is what is there."""
    roster = Roster()
    fleet = Fleet(roster)
    sessions = [session_of(roster, f"node{n}") for n in range(4)]
    fleet.refresh()
    wanted = Wanted(KEY, "default/dice", "python")
    for what, which, free, idle in events:
        session = sessions[which]
        match what:
            case _ if session.number not in roster.sessions:
                pass
            case "grant":
                session.ledger.grant(session.ledger.sent, free, [Warm(KEY, idle, idle)])
                fleet.granted(session, (KEY,))
            case "spend" if session.ledger.free:
                way = Way.IDLE if session.ledger.idle(KEY) else Way.COLD
                session.ledger.send(session.ledger.reserve(way, KEY))
            case "wake" | "sleep":
                session.pulse = Pulse.ALIVE if what == "wake" else Pulse.SILENT
                fleet.refresh()
            case "close":
                roster.close(session.number)
                fleet.refresh()
        able = {
            number: (one.ledger.free, one.ledger.idle(KEY), one.ledger.ahead(KEY))
            for number, one in roster.sessions.items()
            if one.takes_work and (one.ledger.free or one.ledger.ahead(KEY))
        }
        offers = fleet.offers(wanted)
        assert {o.session: (o.free, o.idle, o.ahead) for o in offers} == able
        assert fleet.has_free == any(free for free, _, _ in able.values())
        assert fleet.may_take(KEY) or not able


def test_a_node_has_every_label_with_its_value_and_images_want_containers() -> None:
    hello = msgspec.structs.replace(ModelWorker("n").hello(), labels={"gpu": "1", "zone": "a"})
    docker = msgspec.structs.replace(hello, sandbox="docker")
    none = Function(function_name="f", runtime_name="r")
    assert needs_of(none) is None
    assert needs_of(none, "http") == Needs((), containers=True)
    for requires, fits in (({"gpu": "1"}, True), ({"gpu": "2"}, False), ({"x": ""}, False),
                           ({"gpu": "1", "zone": "b"}, False)):  # fmt: skip
        needs = needs_of(msgspec.structs.replace(none, requires=requires))
        assert needs is not None
        assert needs.fit(hello) is fits
    image = needs_of(msgspec.structs.replace(none, image="i", requires={"gpu": "1"}))
    assert image == Needs((("gpu", "1"),), containers=True)
    assert image.words == "gpu=1 containers"
    assert (image.fit(hello), image.fit(docker)) == (False, True)


def test_a_node_that_left_a_moment_ago_still_counts() -> None:
    roster, needs = Roster(), Needs((("gpu", "1"),), containers=False)
    session = session_of(roster, "node1", labels={"gpu": "1"})
    session.heard_ms = 1000
    roster.close(session.number)
    assert lacking(roster, needs, 1000) is None
    late = lacking(roster, needs, 1001)
    assert late is not None
    assert late.code == "no_worker"
    assert "--label gpu=1" in late.hint


def test_the_policy_of_the_function_wins_over_that_of_the_api() -> None:
    roster = Roster()
    fleet = Fleet(roster)
    for name in ("node1", "node2"):
        session = session_of(roster, name)
        session.ledger.grant(0, 2, [Warm(KEY, 2)])
    fleet.refresh()
    chooser = Chooser("round-robin")

    def chosen(name: PolicyName | None) -> str:
        choice = chooser.choose(Wanted(KEY, "default/dice", "python", policy=name), fleet)
        assert isinstance(choice, Choice)
        return f"{choice.policy} {choice.offer.session}"

    assert [chosen(None) for _ in range(3)] == [
        "round-robin 1", "round-robin 2", "round-robin 1",
    ]  # fmt: skip
    assert [chosen("warm-first") for _ in range(2)] == ["warm-first 1"] * 2
    gone = chooser.choose(Wanted("k", "f", "r", needs=Needs((("a", "b"),), False)), fleet)
    assert gone == Nowhere(fits=False, takes_work=True)


def test_the_first_turn_of_a_function_follows_that_of_another() -> None:
    roster = Roster()
    fleet = Fleet(roster)
    for name in ("node1", "node2", "node3"):
        session_of(roster, name).ledger.grant(0, 9, [])
    fleet.refresh()
    chooser = Chooser("round-robin")

    def turn(function: str) -> int:
        choice = chooser.choose(Wanted(f"{function}@1.1", function, "python"), fleet)
        assert isinstance(choice, Choice)
        return choice.offer.session

    assert [turn(name) for name in "abcdabc"] == [1, 2, 3, 1, 2, 3, 1]


def requiring(labels: dict[str, str], **more: Any) -> Spec:
    plain = spec()
    function = msgspec.structs.replace(plain.function, requires=labels, **more)
    return msgspec.structs.replace(plain, function=function)


def test_calls_wait_for_the_node_that_has_their_label_and_say_so() -> None:
    scene = Scene()
    scene.credit(scene.join("node1"), 2, 2)
    call = live(1, sync=True, now=scene.now, of=requiring({"gpu": "1"}))
    scene.did(scene.dispatch.accept(call, scene.now))
    assert (scene.sent(Start), call.blocked) == ([], Blocked.LABELS)
    hello = msgspec.structs.replace(ModelWorker("gpu").hello(), labels={"gpu": "1"})
    session, actions = scene.dispatch.hello(b"gpu", hello, ("e", 1), scene.now)
    scene.did(actions)
    scene.now += 2
    scene.credit(session, 1)
    assert [prepare.session for prepare in scene.sent(Prepare)] == [session.number]
    told = call.call().attempts[0].why
    assert "it may only run where there is gpu=1 (1 of 2 nodes)" in told
    late = live(2, sync=True, now=scene.now, of=requiring({"gpu": "2"}))
    scene.did(scene.dispatch.accept(late, scene.now))
    scene.passes(601)
    assert late.reason is not None
    assert "no node was there that has what its function requires" in late.reason.message


def test_cold_calls_spread_over_waiting_generic_sandboxes_not_onto_one_node() -> None:
    scene = Scene()
    nodes = [scene.join(f"node{n}") for n in (1, 2, 3)]
    for node in nodes:
        scene.credit(node, 4)
    for node in nodes[1:]:
        beat = WorkerHeartbeat(session=node.number, seen=0, received=0, running=0, sandboxes=1,
                               generic=(("python", 1),))  # fmt: skip
        scene.did(scene.dispatch.nodes.beat(node, beat, scene.now))
    for num in (1, 2, 3):
        scene.accept(num)
    assert [p.session for p in scene.sent(Prepare)] == [
        n.number for n in (*nodes[1:], nodes[0])
    ]
    told = scene.dispatch.calls[1].call().attempts[0].why
    assert "the least loaded of 2 nodes with a waiting generic sandbox of its runtime" in told


def test_a_full_house_costs_nothing_and_a_slot_that_comes_free_is_seen() -> None:
    scene = Scene()
    session = scene.join()
    scene.credit(session, 1, 1)
    scene.accept(1)
    waiting = scene.accept(2)
    assert waiting.blocked is not None
    scene.credit(session, 0, 0, seen=1)
    scene.sent(Start)
    scene.credit(session, 1, 0, seen=1)
    assert [prepare.call for prepare in scene.sent(Prepare)] == [2]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (
            Choice(offer(2, free=3), Way.COLD, 3, 3, "round-robin"),
            (
                "by round-robin: it was the turn of node2, of 3 nodes that could take it; "
                "one was ordered there (3 of 4 free)"
            ),
        ),
        (
            Choice(offer(2, free=1, idle=1), Way.IDLE, 3, 1, "least-loaded"),
            (
                "by least-loaded: node2 was the least loaded, the only one that could take it; "
                "a warm sandbox of this function was idle there"
            ),
        ),
        (
            Choice(offer(2, ahead=1), Way.AHEAD, 2, 2, "random", "gpu=1", 5),
            (
                "it may only run where there is gpu=1 (2 of 5 nodes); by random: node2 was "
                "drawn at random, of 2 nodes that could take it; its calls are short, so it "
                "went behind a running one"
            ),
        ),
    ],
)  # fmt: skip
def test_a_choice_is_told_in_words(choice: Choice, words: str) -> None:
    assert why(Try(1, "node2", choice=choice), []) == words


async def test_a_call_that_no_node_can_run_is_refused_with_the_labels() -> None:
    async with open_room("--policy", "round-robin") as room:
        await room.register(requires='{"gpu": "1"}', policy="random")
        status, shown, _ = await room.ask("GET", "/functions/dice")
        assert (shown["requires"], shown["policy"]) == ({"gpu": "1"}, "random")
        plain = await room.worker()
        plain.credit(4)
        for query in ("", "?wait=5"):
            status, answer = await room.invoke(query)
            assert (status, answer["error"]["code"]) == (503, "no_worker")
            assert "gpu=1" in answer["error"]["message"]
            assert "--label gpu=1" in answer["error"]["hint"]
        worker = await room.worker("node2", labels={"gpu": "1"})
        worker.credit(1)
        assert (await room.invoke())[0] == 202
        await worker.next(Prepare)
        assert plain.take(Prepare) is None
        status, changed, _ = await room.ask("PATCH", "/functions/dice", {"requires": None})
        assert (status, changed["requires"]) == (200, {})
        status, answer, _ = await room.ask("PATCH", "/functions/dice", {"policy": "best"})
        assert (status, "policy" in answer["error"]["message"]) == (400, True)
