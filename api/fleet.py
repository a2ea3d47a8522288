"""The nodes as candidates: which may take a call, kept in step so that a call looks at few.

``_free`` and ``_warm`` hold every session that may have something to offer, and maybe some
that have nothing any more: these leave when they are looked at. So a call costs what there is
to choose from, and next to nothing while all nodes are full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.policy import Needs, Offer
from api.roster import Roster, Session
from wire.errors import NoWorker
from wire.models import PolicyName


def lacking(roster: Roster, needs: Needs, since_ms: int) -> NoWorker | None:
    """Return why no node can ever run it; None if one is here, or was ``since_ms`` (wall)."""
    here = [session.hello for session in roster.sessions.values()]
    late = [gone.hello for gone in roster.gone.values() if gone.heard_ms >= since_ms]
    if any(map(needs.fit, here + late)):
        return None
    labels = " ".join(f"--label {key}={value}" for key, value in needs.labels)
    option = f"{labels}{' --sandbox docker' * needs.containers}".strip()
    return NoWorker(
        f"no worker has what this function requires: {needs.words}",
        hint=f"start one: skep-worker --name node1 --api tcp://HOST:3001 {option}; "
        "GET /workers shows what those there have",
    )


@dataclass(slots=True)
class Wanted:
    """The facts of a call that a choice is made by."""

    key: str
    #: Project and name, and the name of the runtime.
    function: str
    runtime: str
    needs: Needs | None = None
    policy: PolicyName | None = None
    #: Whether a sandbox of it runs several calls at the same time.
    beside: bool = False
    #: Whether it may be put behind a call that runs: one that kept being handed back may not.
    behind: bool = True
    #: Bytes that go with its START.
    inline: int = 0
    #: Nodes (ids) that failed to make a sandbox for it.
    avoid: frozenset[str] = frozenset()


class Fleet:
    """The sessions of a roster that take work."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._free: dict[int, Session] = {}
        self._warm: dict[str, dict[int, Session]] = {}
        self._nodes: dict[Needs | None, Mapping[int, Session]] = {}

    def __repr__(self) -> str:
        return f"<Fleet {len(self._free)} with free slots, {len(self._warm)} warm keys>"

    def refresh(self) -> None:
        """A session came or went, or takes work again or no more: look at all anew."""
        self._free.clear()
        self._warm.clear()
        self._nodes.clear()
        for session in self._roster.sessions.values():
            self.granted(session, session.ledger.warm_keys())

    def granted(self, session: Session, keys: Iterable[str]) -> None:
        """A session may have something to offer, of these keys too."""
        if not session.takes_work:
            return
        if session.ledger.free:
            self._free[session.number] = session
        for key in keys:
            self._warm.setdefault(key, {})[session.number] = session

    @property
    def load(self) -> float:
        """Return the attempts for each slot of all nodes together."""
        nodes = self.nodes(None).values()
        slots = sum(session.hello.slots for session in nodes)
        return sum(len(session.attempts) for session in nodes) / max(1, slots)

    def nodes(self, needs: Needs | None) -> Mapping[int, Session]:
        """Return the sessions that take work and have what is needed."""
        found = self._nodes.get(needs)
        if found is None:
            found = self._nodes[needs] = {
                number: session
                for number, session in self._roster.sessions.items()
                if session.takes_work and (needs is None or needs.fit(session.hello))
            }
        return found

    def may_take(self, key: str) -> bool:
        """Return whether looking for a place for a call of this key is worth it."""
        return self.has_free or key in self._warm

    @property
    def has_free(self) -> bool:
        """Return whether any node has a free slot."""
        while self._free:
            number, session = next(iter(self._free.items()))
            if session.ledger.free:
                return True
            del self._free[number]
        return False

    def warm_offers(self, wanted: Wanted) -> list[Offer]:
        """Return the offers of nodes where something of its key is warm."""
        warm = self._warm.get(wanted.key)
        if warm is None:
            return []
        offers = self._of(warm, wanted)
        for offer in offers:
            ledger = self._roster.sessions[offer.session].ledger
            if not offer.idle and not ledger.ahead(wanted.key):
                del warm[offer.session]
        if not warm:
            del self._warm[wanted.key]
        return offers

    def offers(self, wanted: Wanted, warm: list[Offer] | None = None) -> list[Offer]:
        """Return what every node could do that may have the call, and can do anything.

        ``warm`` are the offers of nodes where its key is warm, if they are known already.
        """
        offers = self.warm_offers(wanted) if warm is None else list(warm)
        if not self.has_free:
            return [offer for offer in offers if offer.way is not None]
        known = {offer.session for offer in offers}
        for offer in self._of(self._free, wanted):
            if not offer.free:
                del self._free[offer.session]
            elif offer.session not in known:
                offers.append(offer)
        return [offer for offer in offers if offer.way is not None]

    def _of(self, candidates: Mapping[int, Session], wanted: Wanted) -> list[Offer]:
        nodes = self.nodes(wanted.needs)
        few, many = candidates, nodes
        if len(few) > len(many):
            few, many = many, few
        return [
            _offer(session, wanted)
            for number, session in few.items()
            if number in many and session.takes_work and session.window >= wanted.inline
        ]


def _offer(session: Session, wanted: Wanted) -> Offer:
    ledger, key = session.ledger, wanted.key
    return Offer(
        session=session.number,
        free=ledger.free,
        idle=ledger.idle(key),
        ahead=ledger.ahead(key) if wanted.behind else 0,
        slots=session.hello.slots,
        attempts=len(session.attempts),
        avoided=session.hello.node_id in wanted.avoid,
        generic=session.generic(wanted.runtime),
        lent=ledger.spare - ledger.free,
    )
