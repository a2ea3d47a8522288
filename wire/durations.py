"""Lengths of time as people write them: ``30``, ``0.5``, ``500ms``, ``2m``, ``30d``."""

from __future__ import annotations

import re
from typing import Final

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?", re.IGNORECASE)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Return a length of time in seconds; without a unit it is in seconds already.

    Raises:
        ValueError: it is none.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time; e.g. 30 (seconds), 500ms, 2m or 30d")
    return float(match[1]) * _SECONDS[(match[2] or "s").lower()]
