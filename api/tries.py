"""One attempt of a call as the api holds it: what became of it, and the facts of why.

Facts are kept as they were when something was decided, and become words only in
``api.telling``, when somebody reads the record.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from api.ledger import Way
from api.policy import Choice
from wire.messages import Made, Outcome
from wire.models import Reason, Status, Warmth


class Blocked(enum.Enum):
    """What a call waited for, before it went anywhere."""

    #: Calls of its function that came before it.
    TURN = "turn"
    #: A node that takes work.
    NODE = "node"
    #: A node that has what its function requires.
    LABELS = "labels"
    #: The end of another call: as many of its function run as may (``maxConcurrency``).
    LIMIT = "limit"
    #: A slot, on any of the nodes.
    SLOT = "slot"
    #: Its params, which memory had no room for: the store has them.
    STORE = "store"
    #: The end of its back-off.
    PAUSE = "pause"


@dataclass(slots=True)
class Try:
    """One attempt of a call; the times are the api's monotonic clock."""

    attempt: int
    node: str
    miniworker: str | None = None
    started: float | None = None
    finished: float | None = None
    status: Status | None = None
    reason: Reason | None = None
    #: What the policy chose by; None if an earlier life of the api did.
    choice: Choice | None = None
    #: How long it waited for that, and for what.
    waited_s: float = 0.0
    blocked: Blocked | None = None
    #: What its node said last that its sandbox waits for.
    waits_for: str = ""
    #: When it was sent off, and when its START was decided and handed to the socket.
    dispatched: float | None = None
    permitted: float | None = None
    sent: float | None = None
    #: Whether a sandbox became idle before the one that was PREPAREd was ready.
    early: bool = False
    #: Whether its node failed to make a sandbox.
    failed: bool = False
    warmth: Warmth | None = None
    made: Made | None = None
    waited_ms: float | None = None
    #: What the record said, if an earlier life of the api wrote it.
    told_way: Literal["idle", "ahead", "cold"] | None = None
    told_why: str = ""

    def take(self, outcome: Outcome) -> None:
        """Note what its node tells of it."""
        self.miniworker = outcome.miniworker or None
        self.warmth, self.made = outcome.start, outcome.made
        self.waited_ms = outcome.waited_ms

    def stages(self) -> dict[str, float]:
        """Return what its time went to between being sent off and running, in ms."""
        taken = dict(self.made.stages) if self.made else {}
        if self.waited_ms is not None:
            taken["wait"] = self.waited_ms
            if self.made is None and self.choice and self.choice.way is Way.COLD:
                # It was PREPAREd, and what it got was another's sandbox that became free.
                taken["wait"] += ms(self.dispatched, self.permitted)
        return taken


def ms(begin: float | None, end: float | None) -> float:
    """Return the milliseconds between two moments; 0 if one is not known."""
    return 0.0 if begin is None or end is None else max(0.0, end - begin) * 1000
