"""What a server's answer means for its call: pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from miniworker import agent
from miniworker.exchange import Answer

#: Of the body of a refusal, so much of the beginning is the reason.
SAID_CHARS: Final = 1000
_GOOD: Final = range(200, 300)


def result_of(serial: int, answer: Answer) -> tuple[agent.Result, bytes]:
    """Return how the call ended, and its result; logs are not in its sizes yet."""
    if answer.status not in _GOOD:
        return failed(serial, "http_status", _refusal(answer)), b""
    if not answer.is_whole:
        message = f"its answer has more than {len(answer.body)} bytes"
        return failed(serial, "result_too_large", message), b""
    kind = _kind(answer)
    return agent.Result(attempt=serial, status="DONE", result_type=kind), answer.body


def failed(
    serial: int, code: Literal["http_status", "no_answer", "result_too_large"], message: str
) -> agent.Result:
    """Return the end of a call that was not answered well."""
    return agent.Result(attempt=serial, status="FAILED", code=code, message=message)


def _refusal(answer: Answer) -> str:
    said = answer.body.decode(errors="replace").strip()[:SAID_CHARS]
    return f"it answered {answer.status} {answer.phrase}".rstrip() + (f": {said}" * bool(said))


def _kind(answer: Answer) -> Literal["text", "json"]:
    """Return json if it says so and is."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return "text"
    try:
        msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return "text"
    return "json"
