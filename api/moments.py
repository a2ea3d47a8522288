"""Points in time as records spell them: ISO 8601 UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=1024)
def iso(wall_ms: int) -> str:
    """Return a point in time, given as milliseconds since 1970."""
    return f"{_second(wall_ms // 1000)}.{wall_ms % 1000:03d}Z"


def wall_ms(text: str) -> int:
    """Return the milliseconds since 1970 of what ``iso`` wrote."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@lru_cache(maxsize=256)
def _second(second: int) -> str:
    # A record has half a dozen moments, most of them in the same second, or millisecond.
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
