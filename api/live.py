"""A call as the api holds it while it lives: the record, and what deciding about it needs.

``Live`` is the only mutable thing of a call. Times are kept on the api's own monotonic clock
and become wall time by the offset of the moment the call was accepted, so that a record's
timeline never runs backwards, whatever happens to the wall clock meanwhile.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from api import telling
from api.ledger import Spend, Way
from api.moments import iso
from api.phase import Phase
from api.policy import Choice
from api.tries import Blocked, Try, ms
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
    #: The bytes of params that are in the store alone; None: ``params`` are the params.
    away: int | None = None
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
    #: Whether its client waits to hear that it is accepted: until its first record is durable.
    is_offered: bool = False
    #: Whether it counts against the ``maxConcurrency`` of its function.
    is_counted: bool = False
    #: Why a cancel was asked for.
    cancel: Reason | None = None
    #: How often a node failed to make a sandbox, a started attempt died, a START came back.
    faults: int = 0
    deaths: int = 0
    returns: int = 0
    #: Nodes (ids) that failed to make a sandbox for it.
    avoid: frozenset[str] = frozenset()
    #: When it might first be sent, when it last began to wait for that, and what for.
    admitted: float | None = None
    queued: float | None = None
    blocked: Blocked | None = None
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
    #: What an earlier life of the api had measured.
    told_stages: dict[str, float] | None = None
    #: What the record of an ended call explains, as of a revision.
    _kept: tuple[int, tuple[Attempt, ...], dict[str, float]] | None = None
    #: The caller's trace, passed on to the function.
    trace: Trace = NO_TRACE
    #: The revision key that warm sandboxes are counted under.
    key: str = field(init=False)
    #: The public record of an ended call, as of a revision: it is asked for twice at least.
    _ended: tuple[int, Call] | None = None

    def __post_init__(self) -> None:
        self.key = self.spec.key

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
    def deadline(self) -> float:
        """Return the latest moment for START."""
        return self.accepted + self.max_wait_ms / 1000

    @property
    def may_repeat(self) -> bool:
        """Return whether an attempt that may have started may be tried again."""
        return self.spec.function.may_repeat

    @property
    def failures(self) -> int:
        """Return how many attempts before the current one failed, or ran for too long."""
        return sum(one.status in (Status.FAILED, Status.TIMEOUT) for one in self.tries)

    @property
    def needs_gate(self) -> bool:
        """Return whether each START has to be durable before it is sent."""
        return not (self.sync or self.may_repeat)

    @property
    def params_size(self) -> int:
        """Return the bytes of its params, wherever they are."""
        return len(self.params) if self.away is None else self.away

    @property
    def is_stored(self) -> bool:
        """Return whether the store has a record of it, and so its params."""
        return self.durable_rev > 0

    def leave_params(self) -> None:
        """Let go of the params: the store has them, and they are read before it runs."""
        if self.away is None:
            self.away, self.params = len(self.params), b""

    def take_params(self, params: bytes) -> None:
        """Have the params again."""
        self.params, self.away = params, None

    @property
    def size(self) -> int:
        """Return about how many bytes the record takes."""
        logs = len(self.logs.stdout) + len(self.logs.stderr) if self.logs else 0
        return 1024 + len(self.params) + len(self.result) + logs

    @property
    def was_ahead(self) -> bool:
        """Return whether its last attempt was put behind a call that ran."""
        choice = self.tries[-1].choice if self.tries else None
        return choice is not None and choice.way is Way.AHEAD and not choice.beside

    def begin_try(self, node: str, choice: Choice, now: float) -> None:
        """The next attempt goes to this node."""
        one = Try(self.attempt + 1, node, choice=choice, dispatched=now)
        if self.queued is not None:
            one.waited_s, one.blocked = now - self.queued, self.blocked
        self.tries.append(one)

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
        if self.tries:
            self.tries[-1].take(outcome)
            self.tries[-1].started = self.started

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

    def call(self, params: msgspec.Raw | None = None, *, brief: bool = False) -> Call:
        """Return the public record as it stands; a ``brief`` one does not explain itself.

        ``params`` are to be said of a call whose own are away.
        """
        if params is not None or brief or self.phase is not Phase.ENDED:
            return self._call(params, brief=brief)
        if self._ended is None or self._ended[0] != self.rev:
            self._ended = self.rev, self._call(None, brief=False)
        return self._ended[1]

    def _call(self, params: msgspec.Raw | None, *, brief: bool) -> Call:
        function = self.spec.function
        took_ms = self.duration_ms
        attempts, stages = self._brief() if brief else self._explained()
        return Call(
            func_name=function.function_name,
            params=self._raw_params() if params is None else params,
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
            duration=None if took_ms is None else round(took_ms / 1000, 6),
            node=self.tries[-1].node if self.tries else None,
            miniworker=self.miniworker,
            start=self.warmth,
            attempts=attempts,
            peak_memory=self.peak_memory,
            reason=self.reason,
            log_bytes_omitted=self.omitted,
            result_type=self.result_type,
            result_encoding=self.encoding,
            timeout=self.timeout_ms / 1000,
            max_wait=self.max_wait_ms / 1000,
            memory=function.memory,
            stages=stages,
            traceparent=self.trace.parent or None,
        )

    def record(
        self,
        api: str,
        epoch: int,
        params: msgspec.Raw | None = None,
        *,
        brief: bool = False,
    ) -> CallRecord:
        """Return the whole record, as the DB node keeps it."""
        return CallRecord(
            call=self.call(params, brief=brief),
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
            started_rest_ms=self._started_rest_ms(),
        )

    def _started_rest_ms(self) -> float:
        if self.started is None or self.finished is not None:
            return 0.0
        exact_ms = (self.started - self.accepted) * 1000
        return exact_ms - round(exact_ms)

    def portable(self, api: str, epoch: int) -> bytes:
        """Return the record as START carries it: JSON, without the params."""
        return to_json(self.record(api, epoch, NO_PARAMS, brief=True))

    def _raw_params(self) -> msgspec.Raw:
        return NO_PARAMS if self.away is not None else msgspec.Raw(self.params)

    def _at(self, moment: float | None) -> str | None:
        if moment is None:
            return None
        return iso(self.accepted_ms + round((moment - self.accepted) * 1000))

    def _brief(self) -> tuple[tuple[Attempt, ...], dict[str, float]]:
        return tuple(self._public(one, "") for one in self.tries), {}

    def _explained(self) -> tuple[tuple[Attempt, ...], dict[str, float]]:
        """Return the attempts with their whys, and the stages; of an ended call made once."""
        kept = self._kept
        if kept is not None and kept[0] == self.rev:
            return kept[1:]
        tries = self.tries
        whys = (telling.why(one, tries[:at]) for at, one in enumerate(tries))
        attempts = tuple(map(self._public, tries, whys))
        stages = self._stages()
        if self.phase is Phase.ENDED:
            self._kept = (self.rev, attempts, stages)
        return attempts, stages

    def _public(self, one: Try, why: str) -> Attempt:
        return Attempt(
            attempt=one.attempt,
            node=one.node,
            miniworker=one.miniworker,
            started_at=self._at(one.started),
            finished_at=self._at(one.finished),
            status=one.status,
            reason=one.reason,
            way=telling.way(one),
            why=why,
        )

    def _stages(self) -> dict[str, float]:
        """Return what the time went to, in ms: disjoint, and no more than the whole."""
        left = self.finished if self.dispatched is None else self.dispatched
        taken = {"store": ms(self.accepted, self.admitted), "queued": ms(self.admitted, left)}
        taken |= self.told_stages or {}
        if self.tries:
            last = self.tries[-1]
            taken["store"] += ms(last.permitted, last.sent)
            if last.dispatched is not None:
                taken["earlier"] = ms(self.dispatched, last.dispatched)
            taken |= last.stages()
        taken["run"] = self.duration_ms or 0.0
        return {name: round(took, 3) for name, took in taken.items() if took > 0.0005}
