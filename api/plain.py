"""What a validator says, in words of those who wrote the request."""

from __future__ import annotations

import re
from typing import Final

from wire.models import NAME_PATTERN

#: Of a validator -> of JSON.
_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
}
_PLACE: Final = re.compile(r"(.*) - at `\$\.?([^`]+)`", re.DOTALL)
_KIND: Final = re.compile(r"(Expected|got) `([a-z]+(?: \| [a-z]+)*)`")


def plain(error: Exception) -> str:
    """Say what does not fit: the field first, then what it should be."""
    text = _KIND.sub(lambda kinds: f"{kinds[1]} {_or(kinds[2])}", str(error))
    text = text.replace(f"a text matching regex {NAME_PATTERN!r}", "a name")
    if not (place := _PLACE.fullmatch(text)):
        return text
    what = place[1]
    return f"{place[2]}: {what[:1].lower()}{what[1:]}"


def _or(kinds: str) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | "))
