"""What the deciders of this room order: plain data, carried out by the shell.

Structs, not frozen dataclasses: these take several times as long to make.
"""

from __future__ import annotations

import msgspec

from wire.codec import Payload
from wire.messages import Outcome
from wire.models import Fault, Reason, Spec

#: (call, attempt): what names an attempt on this node.
Id = tuple[int, int]


class Step(msgspec.Struct, frozen=True):
    """A part of the making of a sandbox, on this worker's monotonic clock."""

    stage: str
    begin: float
    end: float


class SayReady(msgspec.Struct, frozen=True):
    """Tell the api that a PREPAREd attempt has its sandbox."""

    id: Id


class SayProgress(msgspec.Struct, frozen=True):
    """Tell the api what a PREPAREd attempt waits for."""

    id: Id
    text: str


class SayReturned(msgspec.Struct, frozen=True):
    """Tell the api that this attempt will never begin here.

    ``owed`` ones are told in the next session if there is none now: the api holds them for
    possibly started.
    """

    id: Id
    fault: Fault = Fault.NONE
    reason: Reason | None = None
    log: str = ""
    owed: bool = False


class End(msgspec.Struct, frozen=True):
    """An attempt ended: keep this until it is RECORDED.

    ``payload`` is result, stdout and stderr, cut by ``sizes``.
    """

    id: Id
    outcome: Outcome
    sizes: tuple[int, int, int]
    payload: Payload
    record: bytes
    params: Payload
    #: For the log: its revision key, and the trace that its caller named.
    key: str = ""
    traceparent: str = ""


class FetchParams(msgspec.Struct, frozen=True):
    """Get the params of an attempt that were too large to come with START."""

    id: Id
    size: int


class ForgetParams(msgspec.Struct, frozen=True):
    """Nobody waits for these params any more."""

    id: Id


class Spawn(msgspec.Struct, frozen=True):
    """Fork a miniworker of this name."""

    sandbox: str


class WantBundle(msgspec.Struct, frozen=True):
    """Get the bundle of a revision key for this sandbox, and count it as in use."""

    sandbox: str
    key: str


class DropBundle(msgspec.Struct, frozen=True):
    """End the claim that a sandbox, now gone, has or wanted to have on a bundle."""

    sandbox: str


class Premake(msgspec.Struct, frozen=True):
    """Have the miniworker make a generic sandbox, by what stands in for a function."""

    sandbox: str
    spec: Spec


class Specialise(msgspec.Struct, frozen=True):
    """Have the miniworker put this code into its sandbox."""

    sandbox: str
    spec: Spec
    bundle: str


class SendJob(msgspec.Struct, frozen=True):
    """Hand an attempt to a miniworker: from here on it may have begun."""

    sandbox: str
    id: Id
    timeout_ms: int
    traceparent: str
    tracestate: str
    params: Payload


class SendCancel(msgspec.Struct, frozen=True):
    """Have a miniworker end one attempt."""

    sandbox: str
    id: Id
    reason: Reason


class Recall(msgspec.Struct, frozen=True):
    """Have a miniworker hand back what it has not begun."""

    sandbox: str


class Stop(msgspec.Struct, frozen=True):
    """Ask a miniworker that holds nothing to leave."""

    sandbox: str


class Kill(msgspec.Struct, frozen=True):
    """End a miniworker with SIGKILL; ``why`` is for the log, and what it was at."""

    sandbox: str
    why: str
    head: Id | None = None


ForMini = Premake | Specialise | SendJob | SendCancel | Recall | Stop
#: What takes time, and its end.
ForErrands = WantBundle | DropBundle | FetchParams | ForgetParams
Action = SayReady | SayProgress | SayReturned | End | Spawn | Kill | ForMini | ForErrands
