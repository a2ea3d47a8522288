"""What functions-framework serves: a function that answers the JSON it was sent."""

from __future__ import annotations

from typing import Any


def echo(request: Any) -> Any:
    """Return what was sent."""
    return request.get_json()
