"""What people want to know of a node: counted, and told in the log where it matters."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from wire.about import about
from wire.counting import Drops
from wire.jobs import Broken
from wire.models import Fault, Status, parse_key
from worker import actions as act

log = logging.getLogger(__name__)

VIOLATION: Final = "protocol_violation"
#: What an attempt finds when it comes.
FOUND: Final = ("loaded", "generic", "none")
#: Of a reason: what a function says of itself may be long.
WHY_CHARS: Final = 200


class Diary:
    """Counts since this node began."""

    def __init__(self) -> None:
        #: By the status that an attempt ended with; RETURNED if it never began here.
        self.attempts: Counter[str] = Counter()
        #: RETURNED attempts that were somebody's fault, by whose.
        self.faults: Counter[str] = Counter()
        #: Attempts that ended, by what they found: loaded, generic or none (FOUND).
        self.starts: Counter[str] = Counter()
        self.violations = 0
        self.kills = 0
        #: What miniworkers could not read of what this worker said.
        self.unread = Drops()

    def __repr__(self) -> str:
        return f"<Diary of {self.attempts.total()} attempts>"

    def note(self, order: act.Action) -> None:
        """Something was decided, and is done now."""
        match order:
            case act.End():
                self._ended(order)
            case act.SayReturned():
                self._returned(order)
            case act.Kill():
                self.kills += 1
                told = about(call=order.head[0], attempt=order.head[1]) if order.head else None
                log.warning("killing %s: %s", order.sandbox, order.why, extra=told)
            case _:
                pass

    def found(self) -> tuple[int, int, int]:
        """Return how many attempts found a loaded sandbox, a generic one, none."""
        loaded, generic, none = (self.starts[what] for what in FOUND)
        return loaded, generic, none

    def broken(self, name: str, broken: Broken) -> None:
        """A sandbox is no more."""
        if broken.reason.code == VIOLATION:
            self.violations += 1
            log.warning("%s broke the protocol: %s", name, broken.reason.message[:WHY_CHARS])

    def _ended(self, end: act.End) -> None:
        outcome = end.outcome
        self.attempts[outcome.status] += 1
        made = outcome.made
        self.starts["loaded" if made is None else "generic" if made.generic else "none"] += 1
        level = logging.DEBUG if outcome.status is Status.DONE else logging.INFO
        if not log.isEnabledFor(level):
            return
        why = outcome.reason
        because = f": {why.code}: {why.message[:WHY_CHARS]}" if why else ""
        call, attempt = end.id
        function = parse_key(end.key)[1] if end.key else None
        told = about(call=call, attempt=attempt, function=function, traceparent=end.traceparent)
        log.log(level, "ended %s on %s%s", outcome.status, outcome.miniworker, because,
                extra=told)  # fmt: skip

    def _returned(self, order: act.SayReturned) -> None:
        self.attempts["RETURNED"] += 1
        if order.fault is Fault.NONE:
            return
        self.faults[order.fault] += 1
        why = order.reason
        call, attempt = order.id
        because = f"{why.code}: {why.message[:WHY_CHARS]}" if why else "no reason given"
        log.info("returned, the %s's fault: %s", order.fault, because,
                 extra=about(call=call, attempt=attempt))  # fmt: skip
