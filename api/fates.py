"""What becomes of a call whose attempt did not come to a good end: the rules, in one place.

Each function looks at a call and what happened, and says End or Again; it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from api.live import Live
from api.telling import BLOCKED
from wire.models import Fault, Reason, Status

#: Nodes may fail to make a sandbox this often before the call ends.
MAX_FAULTS: Final = 3
#: A repeatable call may die under its node or sandbox this often.
MAX_DEATHS: Final = 3
FAULT_BACKOFF_S: Final = 0.5
#: From this many times on, a call that keeps coming back waits a little first.
PATIENT_RETURNS: Final = 3
RETURN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class End:
    """The call ends."""

    status: Status
    reason: Reason


@dataclass(frozen=True, slots=True)
class Again:
    """The call is dispatched again, after a while."""

    delay_s: float = 0.0


Fate = End | Again

UNCONFIRMED: Final = Reason(
    code="unconfirmed", message="its cancellation was not confirmed within 5 s"
)
NODE_SILENT: Final = Reason(
    code="node_silent", message="the node it was started on is not heard of"
)
INTERRUPTED: Final = Reason(
    code="interrupted", message="the api was restarted before it had ended"
)
NOT_STORED: Final = Reason(
    code="cancelled", message="its acceptance could not be stored in time, so it never began"
)


def never_started(live: Live) -> Reason:
    """Return the reason of a call that passed its maxWait, with what it waited for last."""
    what = "its sandbox was not ready" if live.session is not None else BLOCKED[live.blocked]
    limit_s = live.max_wait_ms / 1000
    message = f"it could not start within its maxWait of {limit_s:g} s: {what}"
    return Reason(code="never_started", message=message)


def node_lost(node: str) -> Reason:
    """Return the reason of a call whose node came to its end under it."""
    return Reason(code="node_lost", message=f"node {node} ended while the call ran on it")


def lost_before(node: str) -> Reason:
    """Return the reason of an attempt whose node was lost before it began."""
    return Reason(code="node_lost", message=f"node {node} was lost before the call began there")


def of_return(live: Live, fault: Fault, reason: Reason | None) -> Fate:
    """Return what follows from RETURNED; ``faults`` and ``returns`` count this one already."""
    if live.cancel is not None:
        return End(Status.CANCELLED, live.cancel)
    if fault is Fault.FUNCTION and reason is not None:
        return End(Status.FAILED, reason)
    if fault is Fault.NODE and reason is not None:
        if live.faults >= MAX_FAULTS:
            message = f"no node could make a sandbox; the last said: {reason.message}"
            return End(Status.FAILED, Reason(code="no_sandbox", message=message))
        return Again(min(MAX_BACKOFF_S, FAULT_BACKOFF_S * 2 ** (live.faults - 1)))
    if live.returns < PATIENT_RETURNS:
        return Again()
    return Again(min(MAX_BACKOFF_S, RETURN_BACKOFF_S * live.returns))


def of_death(live: Live, reason: Reason) -> Fate:
    """Return what follows when a started attempt died; ``deaths`` counts it already."""
    if live.cancel is not None:
        return End(Status.CANCELLED, live.cancel)
    if live.may_repeat and live.deaths < _deaths(live):
        return Again()
    return End(Status.LOST, reason)


def _deaths(live: Live) -> int:
    function = live.spec.function
    return MAX_DEATHS if function.idempotent else min(MAX_DEATHS, function.retries + 1)
