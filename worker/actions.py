"""What the deciders of this room order: plain data, carried out by the shell."""

from __future__ import annotations

from dataclasses import dataclass

from wire.messages import Outcome
from wire.models import Fault, Reason, Spec

#: (call, attempt): what names an attempt on this node.
Id = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the making of a sandbox, on this worker's monotonic clock."""

    stage: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class SayReady:
    """Tell the api that a PREPAREd attempt has its sandbox."""

    id: Id


@dataclass(frozen=True, slots=True)
class SayReturned:
    """Tell the api that this attempt will never begin here.

    ``owed`` ones are told in the next session if there is none now: the api holds them for
    possibly started.
    """

    id: Id
    fault: Fault = Fault.NONE
    reason: Reason | None = None
    log: str = ""
    owed: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """An attempt ended: keep this until it is RECORDED.

    ``payload`` is result, stdout and stderr, cut by ``sizes``.
    """

    id: Id
    outcome: Outcome
    sizes: tuple[int, int, int]
    payload: bytes
    record: bytes
    params: bytes
    #: For the log: its revision key, and the trace that its caller named.
    key: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class FetchParams:
    """Get the params of an attempt that were too large to come with START."""

    id: Id
    size: int


@dataclass(frozen=True, slots=True)
class ForgetParams:
    """Nobody waits for these params any more."""

    id: Id


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a miniworker of this name."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class WantBundle:
    """Get the bundle of a revision key for this sandbox, and count it as in use."""

    sandbox: str
    key: str


@dataclass(frozen=True, slots=True)
class DropBundle:
    """End the claim that a sandbox, now gone, has or wanted to have on a bundle."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class Premake:
    """Have the miniworker make a generic sandbox, by what stands in for a function."""

    sandbox: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Specialise:
    """Have the miniworker put this code into its sandbox."""

    sandbox: str
    spec: Spec
    bundle: str


@dataclass(frozen=True, slots=True)
class SendJob:
    """Hand an attempt to a miniworker: from here on it may have begun."""

    sandbox: str
    id: Id
    timeout_ms: int
    traceparent: str
    tracestate: str
    params: bytes


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Have a miniworker end one attempt."""

    sandbox: str
    id: Id
    reason: Reason


@dataclass(frozen=True, slots=True)
class Recall:
    """Have a miniworker hand back what it has not begun."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a miniworker that holds nothing to leave."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a miniworker with SIGKILL; ``why`` is for the log, and what it was at."""

    sandbox: str
    why: str
    head: Id | None = None


ForMini = Premake | Specialise | SendJob | SendCancel | Recall | Stop
#: What takes time, and its end.
ForErrands = WantBundle | DropBundle | FetchParams | ForgetParams
Action = SayReady | SayReturned | End | Spawn | Kill | ForMini | ForErrands
