"""Names like the one that was mistyped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

UNKNOWN_FUNCTION: Final = "unknown_function"
UNKNOWN_RUNTIME: Final = "unknown_runtime"
#: Which parameters of a command hold the name that an error is about, likeliest first.
_HOLDERS: Final = {
    UNKNOWN_FUNCTION: ("function", "name"),
    UNKNOWN_RUNTIME: ("runtime", "name"),
}
#: Words of other command lines (docker, faas-cli) -> what does that here.
ELSEWHERE: Final = {
    "ps": "call list",
    "logs": "call logs",
    "wait": "call wait",
    "kill": "call cancel",
    "deploy": "function register",
    "push": "function register",
    "update": "function update",
    "new": "function new",
    "list": "function list",
    "ls": "function list",
    "describe": "function show",
    "inspect": "function show",
    "remove": "function remove",
    "rm": "function remove",
    "images": "runtime list",
    "store": "runtime list",
    "nodes": "worker list",
    "run": "invoke",
    "info": "doctor",
    "stats": "top",
    "version": "--version",
    "help": "--help",
}


def given(code: str, params: Mapping[str, Any]) -> str:
    """Return the name that was not found, as the user gave it; empty if there is none."""
    for holder in _HOLDERS.get(code, ()):
        if isinstance(value := params.get(holder), str):
            return value
    return ""


def like(name: str, known: Iterable[str]) -> list[str]:
    """Return at most three known names that resemble this one, in whatever case."""
    by_lower = {one.lower(): one for one in known}
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower)]


def sentence(names: list[str]) -> str:
    """Ask whether one of them was meant."""
    return f"Did you mean {' or '.join(names)}?"
