"""Making a call of an earlier life of the api alive again, as its record tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from api.live import Live
from api.moments import wall_ms
from api.phase import Phase
from api.tries import Try
from wire.models import Attempt, CallRecord, Spec
from wire.traces import Trace

#: Where a call stands that a node may be running.
_BEGUN: Final = (Phase.STARTED, Phase.SILENT, Phase.UNDECIDED)
_RECORD: Final = msgspec.json.Decoder(CallRecord)
Moment = Callable[[str | None], float | None]


def revive(record: CallRecord, spec: Spec, now: float, now_ms: int) -> Live:
    """Make a call of an earlier life of this api alive again, as its record tells it."""
    call = record.call
    accepted_ms = wall_ms(call.accepted_at)
    accepted = now + (accepted_ms - now_ms) / 1000

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
        accepted=accepted,
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
        tries=_tries(call.attempts, moment),
        # What was not measured to its end is left out, lest anything is counted twice.
        told_stages={k: ms for k, ms in call.stages.items() if k in ("queued", "earlier")},
        admitted=accepted if call.dispatched_at is None else None,
        dispatched=moment(call.dispatched_at),
        started=_exactly(moment(call.started_at), record),
        trace=Trace(call.traceparent or "", record.tracestate),
    )


def remember(live: Live, attempt: int, record: bytes) -> None:
    """Learn from the record that a worker repeats what was not stored of a call's beginning.

    Whoever was told of the call by the earlier life was told these times.
    """
    if live.started is not None or live.phase not in _BEGUN or attempt != live.attempt:
        return
    try:
        told = _RECORD.decode(record)
    except (ValueError, RecursionError):
        return
    call = told.call

    def moment(text: str | None) -> float | None:
        return (
            None if text is None else live.accepted + (wall_ms(text) - live.accepted_ms) / 1000
        )

    if len(call.attempts) == attempt:
        live.tries = _tries(call.attempts, moment)
    live.dispatched = moment(call.dispatched_at)
    live.started = _exactly(moment(call.started_at), told)


def _exactly(started: float | None, record: CallRecord) -> float | None:
    """Return the moment that an end is counted from, as the earlier life had it."""
    return None if started is None else started + record.started_rest_ms / 1000


def _tries(attempts: Iterable[Attempt], moment: Moment) -> list[Try]:
    return [
        Try(
            one.attempt,
            one.node or "",
            one.miniworker,
            moment(one.started_at),
            moment(one.finished_at),
            one.status,
            one.reason,
            told_way=one.way,
            told_why=one.why,
        )
        for one in attempts
    ]
