"""What a log line is about, so that all that happened to one call can be found. Pure."""

from __future__ import annotations

from typing import Any

from wire.traces import trace_id


def about(
    *,
    call: int | None = None,
    attempt: int | None = None,
    function: str | None = None,
    traceparent: str = "",
) -> dict[str, Any]:
    """Return the ``extra`` of a line about a call, or about a function."""
    told = {
        "call": call,
        "attempt": attempt or None,
        "function": function,
        "trace_id": trace_id(traceparent),
    }
    return {"about": {key: value for key, value in told.items() if value is not None}}
