"""{{name}}: what a call of the function runs."""

from __future__ import annotations


def handler(name: str = "world") -> dict[str, str]:
    """Answer a call: its params are the arguments, what is returned is its result."""
    return {"hello": name}
