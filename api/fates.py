"""What becomes of a call whose attempt did not come to a good end: the rules, in one place.

Each function looks at a call and what happened, and says End or Again; it changes nothing.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Final

from api.live import Live
from api.telling import BLOCKED
from wire.messages import Outcome
from wire.models import Fault, Reason, Status

#: Nodes may fail to make a sandbox this often before the call ends.
MAX_FAULTS: Final = 3
#: A repeatable call may die under its node or sandbox this often.
MAX_DEATHS: Final = 3
FAULT_BACKOFF_S: Final = 0.5
#: From this many times on, a call that keeps coming back goes behind no other any more, and
#: waits a little first if it had a slot of its own.
PATIENT_RETURNS: Final = 3
RETURN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 2.0
#: How long the first repetition of what failed waits at most, and any.
RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 30.0
#: The codes of failures that ``retries`` repeats, beside timeouts: others come again.
PASSING: Final = ("raised", "exit_code", "signal")


@dataclass(frozen=True, slots=True)
class End:
    """The call ends."""

    status: Status
    reason: Reason | None


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
NO_PARAMS: Final = Reason(
    code="params_lost", message="the store does not have its params any more, so it never began"
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


def of_deadline(live: Live) -> End:
    """Return how a call ends that may not begin, or begin again, any more."""
    last = live.tries[-1] if live.tries else None
    if last is not None and last.status in (Status.FAILED, Status.TIMEOUT):
        return End(last.status, last.reason)
    return End(Status.TIMEOUT, never_started(live))


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
            code = reason.code if reason.code == "image_unavailable" else "no_sandbox"
            return End(Status.FAILED, Reason(code=code, message=message))
        return Again(min(MAX_BACKOFF_S, FAULT_BACKOFF_S * 2 ** (live.faults - 1)))
    if live.returns < PATIENT_RETURNS or live.was_ahead:
        # Its node is well: only the call before it took longer than it was thought to.
        return Again()
    return Again(min(MAX_BACKOFF_S, RETURN_BACKOFF_S * live.returns))


def of_death(live: Live, reason: Reason) -> Fate:
    """Return what follows when a started attempt died; ``deaths`` counts it already."""
    if live.cancel is not None:
        return End(Status.CANCELLED, live.cancel)
    if live.may_repeat and live.deaths < _deaths(live):
        # The first death is hardly the function's fault.
        return Again(_pause_s(live, live.deaths - 1) if live.spec.function.retries else 0.0)
    return End(Status.LOST, reason)


def of_failure(live: Live, outcome: Outcome, now: float) -> Fate:
    """Return what follows when an attempt came to an end that is not DONE."""
    reason = outcome.reason
    if outcome.status is Status.CANCELLED and live.cancel is not None:
        reason = live.cancel
    failed = live.failures + 1
    pause_s = _pause_s(live, failed)
    is_left = live.deaths + failed <= live.spec.function.retries
    if live.cancel is None and is_left and now + pause_s < live.deadline and _may_pass(outcome):
        return Again(pause_s)
    return End(outcome.status, reason)


def _may_pass(outcome: Outcome) -> bool:
    """Return whether the same call may well end otherwise another time."""
    code = outcome.reason.code if outcome.reason else ""
    return outcome.status is Status.TIMEOUT or code in PASSING


def _deaths(live: Live) -> int:
    function = live.spec.function
    if function.idempotent:
        return MAX_DEATHS
    return min(MAX_DEATHS, function.retries + 1 - live.failures)


def _pause_s(live: Live, count: int) -> float:
    """Return how long a call waits before it is repeated for the ``count``-th time.

    Twice as long each time, and of that a part between half and all, by the call and its
    attempt: calls that failed together do not come back together.
    """
    if count < 1:
        return 0.0
    longest = min(MAX_RETRY_S, math.ldexp(RETRY_S, count - 1))
    part = zlib.crc32(f"{live.uuid}:{live.attempt}".encode()) / (1 << 32)
    return longest * (1 + part) / 2
