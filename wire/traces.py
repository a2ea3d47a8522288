"""The caller's trace, as W3C Trace Context has it: read from HTTP, handed to the function.

skep makes no spans of its own and invents no trace: what came valid is passed on, what did
not is as if it had not come. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.ASCII | re.DOTALL,
)
#: What a member of a tracestate may be; its value has no comma, equals sign or control.
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)
MAX_STATE_CHARS: Final = 512
MAX_STATE_MEMBERS: Final = 32
_SAMPLED: Final = 1


class Trace(NamedTuple):
    """What travels with a call; both empty if its caller traces nothing."""

    parent: str = ""
    state: str = ""


NO_TRACE: Final = Trace()


def read_trace(parents: Sequence[str], states: Sequence[str]) -> Trace:
    """Return the trace of a request, from all its ``traceparent`` and ``tracestate`` headers.

    Whatever breaks the rules is ignored, as the specification asks: a wrong ``traceparent``
    with its ``tracestate``, a wrong ``tracestate`` alone.
    """
    parent = _parent(parents[0]) if len(parents) == 1 else ""
    return Trace(parent, _state(states)) if parent else NO_TRACE


def trace_id(parent: str) -> str | None:
    """Return the trace id in a ``traceparent`` that was read here; None if there is none."""
    return parent[3:35] or None


def _parent(text: str) -> str:
    match = _PARENT.fullmatch(text.strip(" \t"))
    if match is None:
        return ""
    version, trace, span = match["version"], match["trace"], match["span"]
    if version == "ff" or not (trace.strip("0") and span.strip("0")):
        return ""
    if version == "00":
        return "" if match["more"] else match[0]
    # A later version is passed on as the one that is known here, with the flag that is.
    return f"00-{trace}-{span}-{int(match['flags'], 16) & _SAMPLED:02x}"


def _state(texts: Sequence[str]) -> str:
    members = [part.strip(" \t") for text in texts for part in text.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    joined = ",".join(members)
    if len(keys) != len(members) or len(members) > MAX_STATE_MEMBERS:
        return ""
    if len(joined) > MAX_STATE_CHARS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return joined
