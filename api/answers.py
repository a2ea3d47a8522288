"""What HTTP answers, as models: beside those of ``wire.models``, which most answers are."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.moments import iso
from api.roster import Gone, Session
from wire.liveness import Pulse
from wire.messages import Hello, WorkerHeartbeat
from wire.models import Call, Count, Function, Model, Number

ProcessState = Literal["up", "silent", "draining", "gone", "refused"]


class FunctionShown(Function, frozen=True, kw_only=True):
    """A function with what changes at every call, and is hence no part of a revision."""

    call_count: Count = 0


class StartsShown(Model, frozen=True, kw_only=True):
    """The attempts of a worker's life, by what they found when they came."""

    #: A sandbox with the function loaded: idle, or a place behind a running call.
    warm: Count = 0
    #: A generic one, which it had to be loaded into.
    generic: Count = 0
    #: None: one had to be made.
    cold: Count = 0


class WorkerShown(Model, frozen=True, kw_only=True):
    """A node: who it is, what it runs, what is warm there (by revision key) and generic."""

    name: str
    node: str
    pid: int
    state: Literal["up", "draining", "gone"]
    slots: Count
    running: Count
    sandbox: Literal["docker", "process", "fake"]
    isolation: str
    last_seen: str
    #: The release that it runs.
    version: str
    labels: dict[str, str] = {}
    #: Attempts that are there: those that run, and those that wait there for a sandbox.
    attempts: Count = 0
    #: It drains, and nothing is left there: it may be stopped.
    drained: bool = False
    #: It was not heard of for a while: it is given nothing new until it is.
    silent: bool = False
    #: Slots that it grants, and that no call was given yet.
    free: Count = 0
    #: Why it grants fewer slots than it has free, in words; empty if it grants them all.
    withheld: str = ""
    warm: dict[str, int] = {}
    #: Generic sandboxes that wait, by runtime.
    generic: dict[str, int] = {}
    preload: Literal["none", "runtime", "function"] = "none"
    starts: StartsShown = StartsShown()
    #: Which part of ``starts`` was warm, and which part of the others found a generic one.
    hit_ratio: float | None = None
    generic_hit_ratio: float | None = None


class QueueShown(Model, frozen=True, kw_only=True):
    """The calls of one function revision that have not ended."""

    function_name: str
    revision: Number
    queued: Count
    running: Count


class Health(Model, frozen=True, kw_only=True):
    """The api process lives."""

    status: Literal["ok"]
    version: str
    pid: Number


class ProcessShown(Model, frozen=True, kw_only=True):
    """A process of the installation and what it runs."""

    process: Literal["api", "dbnode", "worker"]
    name: str
    #: Empty while it has not said so.
    release: str
    protocol: Count
    #: A DB node may be silent, a worker draining, gone, or refused for its protocol version.
    state: ProcessState
    reason: str = ""


class Versions(Model, frozen=True, kw_only=True):
    """What the api runs, and every process that it knows."""

    release: str
    protocol: Count
    processes: tuple[ProcessShown, ...]


class Readiness(Model, frozen=True, kw_only=True):
    """Calls find a worker."""

    status: Literal["ready"]
    workers: Number


class ErrorShown(Model, frozen=True, kw_only=True):
    """What went wrong: a code for programs, a sentence, and what to do about it."""

    code: str
    message: str
    hint: str


class ErrorAnswer(Model, frozen=True, kw_only=True):
    """Every answer that is an error, whoever noticed it."""

    error: ErrorShown


class BatchLine(Model, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one line of a batch: its call, or why there is none."""

    #: Of the line in the request, from 0; those without text count too.
    index: Count
    #: What POST /invokeFunction would have answered.
    status: Number
    call_num: Number | None = None
    #: The record, if its end was waited for.
    call: Call | None = None
    error: ErrorShown | None = None


def function(of: Function, call_count: int) -> FunctionShown:
    """Return a function as HTTP shows it."""
    return FunctionShown(**msgspec.structs.asdict(of), call_count=call_count)


def worker(session: Session) -> WorkerShown:
    """Return a worker that is here."""
    state: Literal["up", "draining"] = "draining" if session.is_draining else "up"
    shown = _worker(session.hello, session.heard_ms, state, session.heartbeat)
    return msgspec.structs.replace(
        shown,
        attempts=len(session.attempts),
        drained=session.is_drained,
        silent=session.pulse is Pulse.SILENT,
        free=session.ledger.free,
        withheld=session.heartbeat.withheld if session.heartbeat else "",
    )


def gone(one: Gone) -> WorkerShown:
    """Return a worker that was here."""
    return _worker(one.hello, one.heard_ms, "gone", None)


def _worker(
    hello: Hello,
    heard_ms: int,
    state: Literal["up", "draining", "gone"],
    heartbeat: WorkerHeartbeat | None,
) -> WorkerShown:
    return WorkerShown(
        name=hello.name,
        node=hello.node_id,
        pid=hello.pid,
        state=state,
        slots=hello.slots,
        running=heartbeat.running if heartbeat else 0,
        sandbox=hello.sandbox,
        isolation=hello.isolation,
        last_seen=iso(heard_ms),
        version=hello.version,
        labels=hello.labels,
        **_warmth(heartbeat),
    )


def _warmth(heartbeat: WorkerHeartbeat | None) -> dict[str, Any]:
    if heartbeat is None:
        return {}
    warm, generic, cold = heartbeat.starts
    return {
        "warm": dict(heartbeat.warm),
        "generic": dict(heartbeat.generic),
        "preload": heartbeat.preload,
        "starts": StartsShown(warm=warm, generic=generic, cold=cold),
        "hit_ratio": _ratio(warm, generic + cold),
        "generic_hit_ratio": _ratio(generic, cold),
    }


def _ratio(hits: int, misses: int) -> float | None:
    return round(hits / (hits + misses), 4) if hits + misses else None
