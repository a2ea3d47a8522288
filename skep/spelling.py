"""How values are spelled in a request, and read from an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from skep.dialogue import Answer, Archive, Form
from skep.errors import from_answer

JSON: Final[Mapping[str, str]] = {"Content-Type": "application/json"}


def encode(value: Any) -> bytes:
    """Spell a value as JSON.

    Raises:
        TypeError: it holds what JSON has no word for.
        ValueError: it holds a number that JSON has no word for, or half a character.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def decode(answer: Answer) -> Any:
    """Read the JSON of an answer; a stranger who answers something else is an error."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise from_answer(answer.status, answer.body) from None


def segment(name: str) -> str:
    """Spell a name as one segment of a path."""
    return quote(name, safe="")


def waiting(wait_s: float) -> dict[str, str]:
    """Spell how long the server is to wait for a call."""
    return {"wait": f"{wait_s:.3f}"} if wait_s > 0 else {}


def revised(revision: int | None) -> dict[str, str]:
    """Spell which revision is meant; None is the newest."""
    return {} if revision is None else {"revision": str(revision)}


def form(module: Archive, settings: Mapping[str, Any]) -> Form:
    """Spell an upload: settings as text fields, and as JSON what no text can say."""
    fields = {key: _text(value) for key, value in settings.items() if value is not None}
    unset = {key: None for key, value in settings.items() if value is None}
    return Form(module, fields, encode(unset) if unset else None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
