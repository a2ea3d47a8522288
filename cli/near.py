"""What to do about an error, in words of this command line; names like a mistyped one."""

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
#: What is done here about errors whose hints speak of HTTP; ``{command}`` is the one that ran.
_HERE: Final = {
    UNKNOWN_FUNCTION: "skep function list shows all; skep function register makes one",
    UNKNOWN_RUNTIME: "skep runtime list shows all; skep runtime register python adds Python's",
    "unknown_worker": "skep worker list shows all",
    "unknown_call": "skep call list shows the newest",
    "bad_request": "{command} --help shows what each may be",
}
#: By these a hint is known to speak of HTTP.
_VERBS: Final = ("GET /", "POST /")
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
    "help": "--help",
}


def given(code: str, params: Mapping[str, Any], name: str = "") -> str:
    """Return the name that was not found, as the user gave it; empty if there is none."""
    holders = _HOLDERS.get(code, ())
    if name and holders:
        return name
    return next((str(params[one]) for one in holders if isinstance(params.get(one), str)), "")


def hint(code: str, said: str, command: str, name: str = "", known: Iterable[str] = ()) -> str:
    """Return what to do about an error: names that may have been meant, else words.

    ``said`` is the hint of the server, ``known`` the names there are if ``name`` was not found.
    """
    names = list(known)
    if name in names and code == UNKNOWN_FUNCTION:
        return f"skep function revisions {name} shows those that there are"
    if alike := like(name, names):
        return sentence(alike)
    if any(verb in said for verb in _VERBS):
        return _HERE.get(code, said).format(command=command)
    return said


def like(name: str, known: Iterable[str]) -> list[str]:
    """Return at most three known names that resemble this one, in whatever case."""
    by_lower = {one.lower(): one for one in known}
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower)]


def sentence(names: list[str]) -> str:
    """Ask whether one of them was meant."""
    return f"Did you mean {' or '.join(names)}?"
