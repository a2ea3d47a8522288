"""Which session gets an attempt: one pure function, so that policies read side by side.

*Warm-first with bounded load*: an idle warm sandbox wins, on the least loaded node that has
one; then a place behind a running call, but only where the node carries no more than its
fair share and a quarter; then the least loaded node with a free slot, which has to make a
sandbox. Nodes where the call's sandbox could not be made before come last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from api.ledger import Way

#: How far over its fair share a node may be loaded before calls go elsewhere.
BOUND: Final = 1.25


@dataclass(frozen=True, slots=True)
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

    @property
    def load(self) -> float:
        """Return attempts for each slot."""
        return self.attempts / self.slots


class Choice(NamedTuple):
    """What was chosen, and against how many: enough to say later why."""

    offer: Offer
    way: Way
    #: Sessions that offered anything or nothing, and those that offered this way.
    nodes: int
    rivals: int


def warm_first(offers: Sequence[Offer]) -> Choice | None:
    """Return the session and the way, or None if the call has to wait."""
    if len(offers) == 1 and offers[0].idle and offers[0].free:
        return Choice(offers[0], Way.IDLE, 1, 1)
    mean = sum(o.attempts for o in offers) / max(1, sum(o.slots for o in offers))
    ranked = [(_rank(o, way, mean), o, way) for o in offers for way in _ways(o)]
    if not ranked:
        return None
    _, offer, way = min(ranked, key=lambda one: one[0])
    rivals = sum(1 for _, _, other in ranked if other is way)
    return Choice(offer, way, len(offers), rivals)


def _ways(offer: Offer) -> Iterable[Way]:
    if offer.free and offer.idle:
        yield Way.IDLE
    if offer.ahead:
        yield Way.AHEAD
    if offer.free:
        yield Way.COLD


def _rank(offer: Offer, way: Way, mean: float) -> tuple[bool, bool, Way, float, int]:
    crowded = way is Way.AHEAD and offer.load > max(1.0, BOUND * mean)
    return offer.avoided, crowded, way, offer.load, offer.session
