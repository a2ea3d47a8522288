"""The credits of one session: what its worker granted, less what was spent since it counted.

Grants are absolute counts as of ``seen`` messages that spend, so nothing can drift: a
CREDIT that has seen a spend has counted it. A spend is *reserved* from the decision on and
*sent* (numbered) when its message is handed to the socket, which may be a write later.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wire.messages import Warm


class Way(enum.IntEnum):
    """How an attempt gets to a sandbox, the better way first."""

    #: START on an idle warm sandbox.
    IDLE = 0
    #: START on a place behind a running call.
    AHEAD = 1
    #: PREPARE: a sandbox has to be made.
    COLD = 2
    #: START after READY: the slot is the attempt's own already.
    READY = 3


@dataclass(slots=True)
class Spend:
    """One credit that was taken; ``number`` counts sent ones, 0 while it is reserved."""

    way: Way
    key: str
    number: int = 0

    @property
    def free(self) -> int:
        """Return how many slots this takes, until the worker says otherwise."""
        return int(self.way in (Way.IDLE, Way.COLD))


class Ledger:
    """What may still be begun on one session."""

    def __init__(self) -> None:
        self.sent = 0
        self._free = 0
        self._lent = 0
        self._warm: dict[str, Warm] = {}
        self._free_spent = 0
        self._spent: dict[tuple[str, Way], int] = {}
        self._open: deque[Spend] = deque()

    def __repr__(self) -> str:
        return f"<Ledger {self.free} free, {len(self._warm)} warm keys, {self.sent} sent>"

    @property
    def free(self) -> int:
        """Return how many slots nobody has."""
        return max(0, self._free - self._free_spent)

    @property
    def spare(self) -> int:
        """Return how many idle sandboxes may begin: also in slots of attempts that wait."""
        return max(0, self._free + self._lent - self._free_spent)

    def idle(self, key: str) -> int:
        """Return how many idle sandboxes of this key may be used."""
        granted = self._warm.get(key)
        return max(0, granted.idle - self._spent.get((key, Way.IDLE), 0)) if granted else 0

    def ahead(self, key: str) -> int:
        """Return how many places behind running calls of this key are left."""
        granted = self._warm.get(key)
        return max(0, granted.ahead - self._spent.get((key, Way.AHEAD), 0)) if granted else 0

    def warm_keys(self) -> Iterator[str]:
        """Return the keys for which anything warm was granted."""
        return iter(self._warm)

    @property
    def is_spent(self) -> bool:
        """Return whether nothing at all can be begun."""
        return self.spare == 0 and not any(self.ahead(key) for key in self._warm)

    def grant(self, seen: int, free: int, warm: Iterable[Warm], lent: int = 0) -> None:
        """Take the worker's count: it knows of the first ``seen`` spends already."""
        while self._open and self._open[0].number <= seen:
            self._forget(self._open.popleft())
        self._free, self._lent = free, lent
        for one in warm:
            if one.idle or one.ahead:
                self._warm[one.key] = one
            else:
                self._warm.pop(one.key, None)

    def reserve(self, way: Way, key: str) -> Spend:
        """Take a credit for a message that will be sent, or released."""
        spend = Spend(way, key)
        self._free_spent += spend.free
        self._spent[key, way] = self._spent.get((key, way), 0) + 1
        return spend

    def send(self, spend: Spend) -> None:
        """The message goes out now: from here on the worker's ``seen`` counts it."""
        self.sent += 1
        spend.number = self.sent
        self._open.append(spend)

    def release(self, spend: Spend) -> None:
        """Give back a reserved credit whose message was never sent."""
        if spend.number == 0:
            self._forget(spend)

    def _forget(self, spend: Spend) -> None:
        self._free_spent -= spend.free
        left = self._spent[spend.key, spend.way] - 1
        if left:
            self._spent[spend.key, spend.way] = left
        else:
            del self._spent[spend.key, spend.way]
