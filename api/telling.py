"""Why an attempt went where it did, in plain words: facts in, one sentence out. Pure.

The only place where such facts become words; it runs when a record is read or stored, not
when something is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from api.ledger import Way
from api.policy import Choice
from api.tries import Blocked, Try
from wire.messages import ColdBecause
from wire.models import Warmth

BLOCKED: Final[Mapping[Blocked | None, str]] = {
    None: "it was not dispatched again",
    Blocked.TURN: "other calls of its function were before it",
    Blocked.NODE: "no node was there to take it",
    Blocked.LABELS: "no node was there that has what its function requires",
    Blocked.LIMIT: "as many calls of its function ran as may (maxConcurrency)",
    Blocked.SLOT: "no node had a free slot",
    Blocked.STORE: "its params had to be read again from the store",
    Blocked.PAUSE: "a failed attempt is not repeated at once",
}
_COLD: Final[Mapping[str, str]] = {
    ColdBecause.FIRST: "none of this function had been there since its worker started",
    ColdBecause.REVISION: "those there were of another revision",
    ColdBecause.EVICTED: "the last one there had made room for others (max-warm)",
    ColdBecause.IDLE: "the last one there had been idle for too long",
    ColdBecause.MEMORY: "the last one there had left because memory was tight",
    ColdBecause.DIED: "the last one there had died",
    ColdBecause.ONE_CALL: "it is an image: each call has a container of its own",
    ColdBecause.BROKEN_OFF: "the last one there had left, as a call was broken off in it",
    ColdBecause.BUSY: "all there were in use by other calls, or being made for them",
}
_GENERIC: Final = "a waiting generic sandbox of its runtime"
#: How a node that was chosen otherwise took the call.
_THERE: Final[Mapping[Way, str]] = {
    Way.IDLE: "a warm sandbox of this function was idle there",
    Way.AHEAD: "{1}",
    Way.COLD: "one was ordered there ({0.free} of {0.slots} free)",
}
_BEHIND: Final = "its calls are short, so it went behind a running one"
_BESIDE: Final = "its sandboxes run several calls, so it went beside running ones"
#: A shorter wait is nobody's concern.
_WORTH_TELLING_S: Final = 0.001


def way(one: Try) -> Literal["idle", "ahead", "cold"] | None:
    """Return how an attempt got to its sandbox in the end, whatever was planned."""
    if one.choice is None:
        return one.told_way
    if one.made is not None:
        return "cold"
    chosen = one.choice.way
    if chosen is Way.COLD:
        return "idle" if one.early or one.warmth is Warmth.WARM else "cold"
    return "ahead" if chosen is Way.AHEAD else "idle"


def why(one: Try, earlier: Iterable[Try]) -> str:
    """Return why it waited, why its node, why cold or warm; ``earlier`` came before it."""
    if one.choice is None:
        return one.told_why
    said = [_waited(one)] if one.waited_s >= _WORTH_TELLING_S else []
    said.append(_chosen(one.node, one.choice))
    said += _avoided(one, earlier)
    said += _came_otherwise(one, one.choice.way)
    if one.waits_for and one.permitted is None and one.finished is None:
        said.append(one.waits_for)
    if one.finished is not None and one.status is None and one.reason is None:
        said.append("it was handed back before it began")
    return "; ".join(said)


def _waited(one: Try) -> str:
    return f"waited {_seconds(one.waited_s)}: {BLOCKED[one.blocked]}"


def _chosen(node: str, choice: Choice) -> str:
    said = _by_warmth(node, choice) if choice.policy == "warm-first" else _by_turn(node, choice)
    said = f"by {choice.policy}: {said}"
    if not choice.only:
        return said
    count = f"{choice.nodes} of {choice.all_nodes} nodes"
    return f"it may only run where there is {choice.only} ({count}); {said}"


def _by_turn(node: str, choice: Choice) -> str:
    """Tell the choice of a policy that goes by nodes."""
    among = f"of {choice.rivals} nodes that could take it"
    if choice.rivals == 1:
        among = "the only one that could take it"
    if choice.policy == "round-robin":
        said = f"it was the turn of {node}, {among}"
    elif choice.policy == "least-loaded":
        said = f"{node} was the least loaded, {among}"
    else:
        said = f"{node} was drawn at random, {among}"
    return f"{said}; {_THERE[choice.way].format(choice.offer, _place(choice))}"


def _by_warmth(node: str, choice: Choice) -> str:
    if choice.way is Way.IDLE:
        with_one = _among(choice, "with one")
        return f"a warm sandbox of this function was idle on {node}, {with_one}"
    if choice.way is Way.AHEAD:
        among = _among(choice, "with such a place")
        return f"no warm sandbox of this function was idle; {_place(choice)} on {node}, {among}"
    offer = choice.offer
    what = f"with {_GENERIC}" if offer.generic else "with a free slot"
    among = _among(choice, what)
    text = (
        f"no warm sandbox of this function was idle; one was ordered on {node}, {among} "
        f"({offer.free} of {offer.slots} free)"
    )
    return f"{text}, though one could not be made there before" if offer.avoided else text


def _place(choice: Choice) -> str:
    return _BESIDE if choice.beside else _BEHIND


def _among(choice: Choice, which: str) -> str:
    if choice.nodes == 1:
        return "the only node"
    if choice.rivals == 1:
        return f"the only one of {choice.nodes} nodes {which}"
    return f"the least loaded of {choice.rivals} nodes {which}"


def _avoided(one: Try, earlier: Iterable[Try]) -> list[str]:
    failed = {t.node: t.reason for t in earlier if t.failed and t.node != one.node}
    return [
        f"{node} was avoided: {reason.code} there before"
        for node, reason in failed.items()
        if reason is not None
    ]


def _came_otherwise(one: Try, chosen: Way) -> Sequence[str]:
    """Tell what made it cold, or what came in between."""
    if one.made is not None:
        because = _COLD.get(one.made.because, "none was there")
        taken = f"a waiting generic sandbox of {one.made.generic} was taken"
        if chosen is Way.COLD and one.made.generic:
            return [f"cold because {because}", f"{taken}, and the function loaded into it"]
        if chosen is Way.COLD:
            return [f"cold because {because}"]
        return [f"that one was gone when it came, so one was made ({because})"]
    if chosen is Way.COLD and (one.early or one.warmth is Warmth.WARM):
        return ["a warm one became free there before the new one was ready"]
    return []


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
