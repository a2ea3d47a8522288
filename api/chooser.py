"""What a choice is made by: the policy of the function or of the api, and what it remembers.

Pure but for its dice, which a test may load.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from api import policy
from api.fleet import Fleet, Wanted
from api.ledger import Way
from api.policy import Choice
from wire.models import PolicyName

#: Functions whose last turn is remembered.
MAX_TURNS: Final = 4096


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No node can take the call now."""

    #: Whether any node that takes work has what its function requires, and takes work at all.
    fits: bool
    takes_work: bool


class Chooser:
    """Says which node gets a call, and how."""

    def __init__(self, default: PolicyName = "warm-first", dice: Random | None = None) -> None:
        self._default = default
        # Not for secrets: it spreads calls.
        self._dice = dice or Random()  # noqa: S311
        #: By function: the session that had its last call under round-robin.
        self._turns: dict[str, int] = {}
        #: The session that had the last such call of any function.
        self._last_turn = 0

    def __repr__(self) -> str:
        return f"<Chooser {self._default}, {len(self._turns)} turns>"

    def choose(self, wanted: Wanted, fleet: Fleet) -> Choice | Nowhere:
        """Return the session and the way, or why the call has to wait."""
        nodes = fleet.nodes(wanted.needs)
        choice = self._by_policy(wanted.policy or self._default, wanted, fleet)
        if choice is None:
            return Nowhere(bool(nodes), bool(fleet.nodes(None)))
        offer, way, rivals, name = choice.offer, choice.way, choice.rivals, choice.policy
        only, total = "", 0
        if wanted.needs is not None:
            only, total = wanted.needs.words, len(fleet.nodes(None))
        return Choice(offer, way, len(nodes), rivals, name, only, total, wanted.beside)

    def choose_warm(self, wanted: Wanted, fleet: Fleet) -> Choice | None:
        """Return what would be chosen if that is warm; None if not, or if it goes by turns."""
        if (wanted.policy or self._default) == "round-robin":
            # A turn is taken by looking.
            return None
        chosen = self.choose(wanted, fleet)
        return None if isinstance(chosen, Nowhere) or chosen.way is Way.COLD else chosen

    def _by_policy(self, name: PolicyName, wanted: Wanted, fleet: Fleet) -> Choice | None:
        match name:
            case "warm-first":
                return _warm_first(wanted, fleet)
            case "round-robin":
                return self._round_robin(wanted, fleet)
            case "least-loaded":
                return policy.least_loaded(fleet.offers(wanted))
            case "random":
                return policy.random(fleet.offers(wanted), self._dice)

    def _round_robin(self, wanted: Wanted, fleet: Fleet) -> Choice | None:
        # A function's first turn follows that of another: else all would begin with one node.
        last = self._turns.pop(wanted.function, self._last_turn)
        choice = policy.round_robin(fleet.offers(wanted), last)
        if choice is not None:
            self._turns[wanted.function] = self._last_turn = choice.offer.session
            if len(self._turns) > MAX_TURNS:
                del self._turns[next(iter(self._turns))]
        return choice


def _warm_first(wanted: Wanted, fleet: Fleet) -> Choice | None:
    # Only a few nodes have something warm of a function: the others are looked at if need be.
    warm = fleet.warm_offers(wanted)
    idle = [o for o in warm if o.may_use_idle and not o.avoided]
    if idle:
        return policy.idle_first(idle)
    offers = fleet.offers(wanted, warm)
    return policy.warm_first(offers, fleet.load if any(o.ahead for o in offers) else 0.0)
