"""What a request says beside its body: waits, pages, numbers and names in the path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from wire.errors import BadRequest, UnknownCall
from wire.models import NAME_PATTERN
from wire.records import ListCalls

MAX_WAIT_S: Final = 300.0
_PREFER_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?", re.IGNORECASE)
_YES: Final = ("true", "1", "yes")
_NO: Final = ("false", "0", "no")
_LIST_FIELDS: Final = frozenset(("order", "limit", "after", "status", "function"))


def wait_s(query: Mapping[str, str], prefer: str) -> float:
    """Return how long to wait for a call's end: ``?wait=`` or ``Prefer: wait=``; 0 is not.

    Raises:
        BadRequest: ``?wait=`` is no number of seconds from 0 to 300.
    """
    said = query.get("wait")
    if said is None:
        found = _PREFER_WAIT.search(prefer)
        # A preference may be followed in part (RFC 7240): a longer wait is cut.
        return min(MAX_WAIT_S, float(found[1])) if found else 0.0
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_S:
        raise BadRequest(
            f"wait={said[:40]} is no number of seconds from 0 to 300", hint="?wait=10"
        )
    return seconds


def prepare_asked(query: Mapping[str, str]) -> bool:
    """Return whether ``?prepare=true`` was said; without it nothing is prepared.

    Raises:
        BadRequest: its value is neither true nor false.
    """
    said = query.get("prepare", "false")
    if said not in _YES and said not in _NO:
        raise BadRequest(f"prepare={said[:40]} is neither true nor false", hint="?prepare=true")
    return said in _YES


def page(query: Mapping[str, str]) -> ListCalls:
    """Return which calls GET /calls asks for.

    Raises:
        BadRequest: an unknown parameter, or a value that is none.
    """
    unknown = sorted(set(query) - _LIST_FIELDS)
    if unknown:
        raise BadRequest(
            f"unknown parameter {unknown[0][:80]!r}",
            hint="known are " + ", ".join(sorted(_LIST_FIELDS)),
        )
    try:
        return msgspec.convert(dict(query), ListCalls, strict=False)
    except ValueError as error:
        raise BadRequest(
            f"the request does not fit: {error}",
            hint="order=asc|desc, limit=1..1000, after=callNum, status=DONE, function=NAME",
        ) from error


def call_num(text: str) -> int:
    """Return the callNum in a path.

    Raises:
        UnknownCall: it is no number, so there is no such call.
    """
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 15) or int(text) == 0:
        raise UnknownCall(
            f"there is no call {text[:40]!r}", hint="GET /calls lists them; /call/1 is one"
        )
    return int(text)


def name(text: str, what: str) -> str:
    """Return a name in a path.

    Raises:
        BadRequest: it may not be one.
    """
    if not re.match(NAME_PATTERN, text):
        raise BadRequest(
            f"{text[:200]!r} cannot be the name of a {what}",
            hint="letters, digits, '.', '_', ':' and '-', at most 128, the first no sign",
        )
    return text
