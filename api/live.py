"""A call as the api holds it while it lives: the record, and what deciding about it needs.

``Live`` is the only mutable thing of a call. Times are kept on the api's own monotonic clock
and become wall time by the offset of the moment the call was accepted, so that a record's
timeline never runs backwards, whatever happens to the wall clock meanwhile.
"""

from __future__ import annotations

import base64
import enum
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from api.ledger import Spend
from api.moments import iso, wall_ms
from wire.about import about
from wire.messages import Outcome
from wire.models import (
    Attempt,
    Call,
    CallRecord,
    Logs,
    Reason,
    Spec,
    Status,
    Warmth,
    to_json,
)
from wire.traces import NO_TRACE, Trace

#: What stands for params in the record that START carries: they are its payload.
NO_PARAMS = msgspec.Raw(b"null")


class Phase(enum.Enum):
    """Where a call stands in dispatch (finer than its public status)."""

    #: Its first record is not durable yet: nothing may be done with it.
    ACCEPTING = "accepting"
    #: It waits for a credit, or for its back-off to pass.
    QUEUED = "queued"
    #: PREPARE was sent: a sandbox is being made.
    PREPARED = "prepared"
    #: START is decided; it goes out when the record that says so is durable.
    PERMITTED = "permitted"
    #: START was handed to the socket: possibly started.
    STARTED = "started"
    #: Possibly started on a node whose session is lost.
    SILENT = "silent"
    #: Read from the store at start, and not judged yet (or kept on request).
    UNDECIDED = "undecided"
    ENDED = "ended"


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


@dataclass(slots=True, eq=False)
class Live:
    """One call from acceptance to its end."""

    num: int
    uuid: str
    spec: Spec
    params: bytes
    timeout_ms: int
    max_wait_ms: int
    sync: bool
    #: Acceptance on the monotonic clock, and on the wall (ms since 1970).
    accepted: float
    accepted_ms: int
    #: What its client calls the request, and a digest of that; None: nothing.
    idempotency_key: str | None = None
    idempotency_digest: str | None = None
    phase: Phase = Phase.ACCEPTING
    rev: int = 0
    #: The newest revision that the store holds durably.
    durable_rev: int = 0
    status: Status = Status.PENDING
    reason: Reason | None = None
    #: The session, node and life of the current attempt.
    session: int | None = None
    node_id: str | None = None
    boot: str | None = None
    tries: list[Try] = field(default_factory=list)
    #: The credit that a START waiting for its record holds.
    spend: Spend | None = None
    #: The revision that has to be durable before START goes out.
    gate: int = 0
    retry_at: float = 0.0
    #: Why a cancel was asked for.
    cancel: Reason | None = None
    #: How often a node failed to make a sandbox, a started attempt died, a START came back.
    faults: int = 0
    deaths: int = 0
    returns: int = 0
    #: Nodes (ids) that failed to make a sandbox for it.
    avoid: set[str] = field(default_factory=set)
    dispatched: float | None = None
    started: float | None = None
    finished: float | None = None
    duration_ms: float | None = None
    miniworker: str | None = None
    warmth: Warmth | None = None
    peak_memory: int | None = None
    result: str = ""
    result_type: Literal["text", "json"] = "text"
    encoding: Literal["base64"] | None = None
    omitted: int = 0
    logs: Logs | None = None
    #: The caller's trace, passed on to the function.
    trace: Trace = NO_TRACE

    def __repr__(self) -> str:
        return f"<Live {self.num} {self.phase.value} {self.status} attempt {self.attempt}>"

    @property
    def attempt(self) -> int:
        """Return the number of the current attempt; 0 before the first."""
        return len(self.tries)

    @property
    def about(self) -> dict[str, Any]:
        """Return what a log line about it bears."""
        name = self.spec.function.function_name
        return about(
            call=self.num, attempt=self.attempt, function=name, traceparent=self.trace.parent
        )

    @property
    def key(self) -> str:
        """Return the revision key that warm sandboxes are counted under."""
        return self.spec.key

    @property
    def deadline(self) -> float:
        """Return the latest moment for START."""
        return self.accepted + self.max_wait_ms / 1000

    @property
    def may_repeat(self) -> bool:
        """Return whether an attempt that may have started may be tried again."""
        return self.spec.function.may_repeat

    @property
    def needs_gate(self) -> bool:
        """Return whether each START has to be durable before it is sent."""
        return not (self.sync or self.may_repeat)

    @property
    def size(self) -> int:
        """Return about how many bytes the record takes."""
        logs = len(self.logs.stdout) + len(self.logs.stderr) if self.logs else 0
        return 1024 + len(self.params) + len(self.result) + logs

    def begin_try(self, node: str) -> None:
        """The next attempt goes to this node."""
        self.tries.append(Try(self.attempt + 1, node))

    def take_outcome(self, outcome: Outcome, now: float) -> None:
        """Fill in the timeline and facts of the attempt that ended the call."""
        begin = self.started if self.started is not None else now
        self.started = min(now, begin + outcome.waited_ms / 1000)
        self.finished = min(now, self.started + outcome.duration_ms / 1000)
        self.duration_ms = outcome.duration_ms
        self.miniworker = outcome.miniworker or None
        self.warmth = outcome.start
        self.peak_memory = outcome.peak_memory
        self.result_type = outcome.result_type
        self.omitted = outcome.omitted

    def take_output(self, result: bytes, stdout: bytes, stderr: bytes) -> None:
        """Keep what the attempt produced; a result that is no text becomes base64."""
        if self.result_type == "text":
            # What a program prints ends with a newline that belongs to no value.
            result = result.removesuffix(b"\n")
        try:
            self.result = result.decode()
        except UnicodeDecodeError:
            self.result, self.encoding = base64.b64encode(result).decode(), "base64"
        self.logs = Logs(
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
            omitted=self.omitted,
        )

    def call(self, params: msgspec.Raw | None = None) -> Call:
        """Return the public record as it stands."""
        function = self.spec.function
        ms = self.duration_ms
        return Call(
            func_name=function.function_name,
            params=msgspec.Raw(self.params) if params is None else params,
            call_num=self.num,
            status=self.status,
            result=self.result,
            id=self.uuid,
            runtime_name=function.runtime_name,
            revision=function.revision,
            project=function.project,
            accepted_at=iso(self.accepted_ms),
            dispatched_at=self._at(self.dispatched),
            started_at=self._at(self.started),
            finished_at=self._at(self.finished),
            duration=None if ms is None else round(ms / 1000, 6),
            node=self.tries[-1].node if self.tries else None,
            miniworker=self.miniworker,
            start=self.warmth,
            attempts=tuple(map(self._public, self.tries)),
            peak_memory=self.peak_memory,
            reason=self.reason,
            log_bytes_omitted=self.omitted,
            result_type=self.result_type,
            result_encoding=self.encoding,
            traceparent=self.trace.parent or None,
        )

    def record(self, api: str, epoch: int, params: msgspec.Raw | None = None) -> CallRecord:
        """Return the whole record, as the DB node keeps it."""
        return CallRecord(
            call=self.call(params),
            rev=max(1, self.rev),
            api=api,
            epoch=epoch,
            runtime_revision=self.spec.runtime.revision,
            timeout_ms=self.timeout_ms,
            max_wait_ms=self.max_wait_ms,
            sync=self.sync,
            node_id=self.node_id,
            boot=self.boot,
            idempotency_key=self.idempotency_key,
            idempotency_digest=self.idempotency_digest,
            logs=self.logs,
            tracestate=self.trace.state,
        )

    def portable(self, api: str, epoch: int) -> bytes:
        """Return the record as START carries it: JSON, without the params."""
        return to_json(self.record(api, epoch, NO_PARAMS))

    def _at(self, moment: float | None) -> str | None:
        if moment is None:
            return None
        return iso(self.accepted_ms + round((moment - self.accepted) * 1000))

    def _public(self, one: Try) -> Attempt:
        return Attempt(
            attempt=one.attempt,
            node=one.node,
            miniworker=one.miniworker,
            started_at=self._at(one.started),
            finished_at=self._at(one.finished),
            status=one.status,
            reason=one.reason,
        )


def revive(record: CallRecord, spec: Spec, now: float, now_ms: int) -> Live:
    """Make a call of an earlier life of this api alive again, as its record tells it."""
    call = record.call
    accepted_ms = wall_ms(call.accepted_at)

    def moment(text: str | None) -> float | None:
        return None if text is None else now + (wall_ms(text) - now_ms) / 1000

    return Live(
        num=call.call_num,
        uuid=call.id,
        spec=spec,
        params=bytes(call.params),
        timeout_ms=record.timeout_ms,
        max_wait_ms=record.max_wait_ms,
        sync=record.sync,
        accepted=now + (accepted_ms - now_ms) / 1000,
        accepted_ms=accepted_ms,
        idempotency_key=record.idempotency_key,
        idempotency_digest=record.idempotency_digest,
        phase=Phase.UNDECIDED,
        rev=record.rev,
        durable_rev=record.rev,
        status=call.status,
        reason=call.reason,
        node_id=record.node_id,
        boot=record.boot,
        tries=[
            Try(
                one.attempt,
                one.node or "",
                one.miniworker,
                moment(one.started_at),
                moment(one.finished_at),
                one.status,
                one.reason,
            )
            for one in call.attempts
        ],
        dispatched=moment(call.dispatched_at),
        started=moment(call.started_at),
        trace=Trace(call.traceparent or "", record.tracestate),
    )
