"""Which node gets an attempt: what a node must have, and the policies, side by side and pure.

An *offer* is what one node could do for a call now. Its *ways*, the better one first: an idle
sandbox of the function, a place behind a running call, a sandbox that has to be made (better
where a generic one of the runtime waits). All policies put nodes last where the call's sandbox
could not be made before.

*warm-first*: the best way wins, on the least loaded node that has it; but a place behind a
running call counts only where the node carries no more than its fair share and a quarter.
*round-robin*: each node in its turn, whatever is warm there. *least-loaded*: the fewest
attempts for its slots; the better way among equals. *random*: any.

Whatever the policy, only nodes with all that the function *needs* make offers: the labels that
it requires, and containers if it is an image or a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from api.ledger import Way
from wire.messages import Hello
from wire.models import Function, PolicyName

#: How far over its fair share a node may be loaded before calls go elsewhere.
BOUND: Final = 1.25
_WAYS: Final = len(Way)


class Needs(NamedTuple):
    """What a node must have to run a function; most functions need nothing."""

    labels: tuple[tuple[str, str], ...]
    containers: bool

    @property
    def words(self) -> str:
        """Say it in words."""
        said = [f"{key}={value}" for key, value in self.labels]
        return " ".join([*said, *["containers"] * self.containers])

    def fit(self, hello: Hello) -> bool:
        """Return whether a node has it all."""
        if self.containers and hello.sandbox != "docker":
            return False
        return all(hello.labels.get(key) == value for key, value in self.labels)


def needs_of(function: Function, contract: str = "agent") -> Needs | None:
    """Return what a function of this contract needs; None if any node will do."""
    containers = function.image is not None or contract == "http"
    if not function.requires and not containers:
        return None
    return Needs(tuple(sorted(function.requires.items())), containers)


@dataclass(slots=True)
class Offer:
    """What one session could do for a call of one key, now."""

    session: int
    free: int
    idle: int
    ahead: int
    slots: int
    #: Attempts that are there already.
    attempts: int
    #: The call's last try there failed for a reason of the node.
    avoided: bool = False
    #: Generic sandboxes of its runtime that wait there, as far as is known.
    generic: int = 0
    #: Slots beside the free ones in which an idle sandbox may run a call, and none be made.
    lent: int = 0

    @property
    def may_use_idle(self) -> bool:
        """Return whether an idle sandbox of it is there, and a slot for that."""
        return bool(self.idle and (self.free or self.lent))

    @property
    def load(self) -> float:
        """Return attempts for each slot."""
        return self.attempts / self.slots

    @property
    def way(self) -> Way | None:
        """Return its best way; None if it has none."""
        if self.may_use_idle:
            return Way.IDLE
        if self.ahead:
            return Way.AHEAD
        return Way.COLD if self.free else None


class Choice(NamedTuple):
    """What was chosen, and against how many: enough to say later why."""

    offer: Offer
    way: Way
    #: Nodes that may have the call, and those of them that could be chosen in its place.
    nodes: int
    rivals: int
    policy: PolicyName = "warm-first"
    #: What the function requires, in words, and how many nodes there are in all.
    only: str = ""
    all_nodes: int = 0
    #: Whether its place is beside running calls, and not behind one.
    beside: bool = False


def warm_first(offers: Sequence[Offer], mean: float | None = None) -> Choice | None:
    """Choose the best way; ``mean`` is the load of all nodes, by default of these."""
    if mean is None:
        mean = mean_load(offers)
    bound = max(1.0, BOUND * mean)
    best: tuple[tuple[bool, bool, int, bool, float, int], Offer, Way] | None = None
    counts = [0] * _WAYS
    generics = 0
    for offer in offers:
        for way in _ways(offer):
            counts[way] += 1
            lacks_generic = way is Way.COLD and not offer.generic
            generics += way is Way.COLD and not lacks_generic
            crowded = way is Way.AHEAD and offer.load > bound
            rank = (offer.avoided, crowded, way, lacks_generic, offer.load, offer.session)
            if best is None or rank < best[0]:
                best = rank, offer, way
    if best is None:
        return None
    _, offer, way = best
    rivals = generics if way is Way.COLD and offer.generic else counts[way]
    return Choice(offer, way, len(offers), rivals)


def idle_first(offers: Sequence[Offer]) -> Choice:
    """Choose as *warm-first* does among nodes that all have an idle one: the least loaded."""
    offer = min(offers, key=lambda o: (o.load, o.session)) if len(offers) > 1 else offers[0]
    return Choice(offer, Way.IDLE, len(offers), len(offers))


def round_robin(offers: Sequence[Offer], last: int) -> Choice | None:
    """Choose the node that follows the one that had the function's last call."""
    able = _able(offers)
    chosen = min(able, key=lambda o: (o.session <= last, o.session), default=None)
    return _chosen(chosen, offers, len(able), "round-robin")


def least_loaded(offers: Sequence[Offer]) -> Choice | None:
    """Choose the node with the fewest attempts for its slots."""
    able = _able(offers)
    chosen = min(able, key=lambda o: (o.load, o.way, o.session), default=None)
    return _chosen(chosen, offers, len(able), "least-loaded")


def random(offers: Sequence[Offer], dice: Random) -> Choice | None:
    """Choose any node."""
    able = _able(offers)
    chosen = able[dice.randrange(len(able))] if able else None
    return _chosen(chosen, offers, len(able), "random")


def mean_load(offers: Sequence[Offer]) -> float:
    """Return the attempts for each slot of all together."""
    return sum(o.attempts for o in offers) / max(1, sum(o.slots for o in offers))


def _ways(offer: Offer) -> tuple[Way, ...]:
    if offer.may_use_idle:
        return (Way.IDLE, Way.AHEAD) if offer.ahead else (Way.IDLE,)
    if offer.free:
        return (Way.AHEAD, Way.COLD) if offer.ahead else (Way.COLD,)
    return (Way.AHEAD,) if offer.ahead else ()


def _able(offers: Sequence[Offer]) -> list[Offer]:
    """Return the nodes that could take the call; those that failed only if no other can."""
    able = [offer for offer in offers if offer.way is not None]
    return [offer for offer in able if not offer.avoided] or able


def _chosen(
    offer: Offer | None, offers: Sequence[Offer], rivals: int, policy: PolicyName
) -> Choice | None:
    if offer is None or offer.way is None:
        return None
    return Choice(offer, offer.way, len(offers), rivals, policy)
