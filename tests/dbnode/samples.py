"""What the tests of this room write: records, runtimes and functions, shortly said."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from wire.models import Attempt, Call, CallRecord, Function, Reason, Runtime, Status

RUNTIME = Runtime(name="py", image="python:3", path="/code", id="r-1", created_at="t0")
DICE = Function(function_name="dice", runtime_name="py", id="f-1", created_at="t0")
DONE = Status.DONE
_OWN = ("logs", "sync", "node_id", "idempotency_key", "idempotency_digest")


def call(num: int = 1, **fields: Any) -> Call:
    base = Call(
        func_name="dice",
        call_num=num,
        id=f"u{num}",
        runtime_name="py",
        revision=1,
        accepted_at="2026-01-01T00:00:00.000Z",
    )
    if "params" in fields:
        fields["params"] = msgspec.Raw(fields["params"])
    return replace(base, **fields)


def record(
    num: int = 1, rev: int = 1, *, api: str = "api", epoch: int = 1, **fields: Any
) -> CallRecord:
    """Return a record; what is no field of a record is one of its call."""
    own = {name: fields.pop(name) for name in _OWN if name in fields}
    return CallRecord(
        call=call(num, **fields),
        rev=rev,
        api=api,
        epoch=epoch,
        runtime_revision=1,
        timeout_ms=5000,
        max_wait_ms=600_000,
        **own,
    )


def attempt(number: int, status: Status | None = None) -> Attempt:
    reason = Reason(code="raised", message="no") if status is Status.FAILED else None
    return Attempt(attempt=number, node="n", status=status, reason=reason)
