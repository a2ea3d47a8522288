"""What goes wrong between a client and skep, as exceptions."""

from __future__ import annotations

import json
from typing import Any


class SkepError(Exception):
    """An answer of skep that is an error: its code, sentence, hint and HTTP status."""

    def __init__(self, message: str, *, code: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r}, status={self.status})"

    def as_dict(self) -> dict[str, Any]:
        """Return the error in the shape in which skep answers it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class NotReachable(SkepError):
    """No answer came: nothing listens there, or the connection broke, or it took too long."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="not_reachable", hint=hint, status=0)


def from_answer(status: int, body: bytes) -> SkepError:
    """Make the exception for an error answer; a stranger's answer becomes one too."""
    try:
        error = json.loads(body)["error"]
        return SkepError(
            str(error["message"]),
            code=str(error["code"]),
            hint=str(error.get("hint", "")),
            status=status,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return SkepError(
            f"HTTP {status}, and not in the words of skep: {body[:200]!r}",
            code="internal",
            hint="Does this address belong to skep, or to another server or a proxy?",
            status=status,
        )
