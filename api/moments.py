"""Points in time as records spell them: ISO 8601 UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(wall_ms: int) -> str:
    """Return a point in time, given as milliseconds since 1970."""
    at = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{wall_ms % 1000:03d}Z"


def wall_ms(text: str) -> int:
    """Return the milliseconds since 1970 of what ``iso`` wrote."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
