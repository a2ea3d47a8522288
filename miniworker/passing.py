"""What a build is given of its host: how package indexes are reached, and who reads along.

Which variables these are is worked out by the worker (docs/architecture.md, "What a build is
given"); how a sandbox gets them is the same for every driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from miniworker.building import PIPE_VARIABLE
from miniworker.sandbox import Plan
from miniworker.watching import PIPE_NAME

_WORD: Final = re.compile(r"\S+")


def to_build(plan: Plan, sockets: str) -> dict[str, str]:
    """Return the variables of a build, whose pipe lies in this folder; nothing for calls."""
    return {**plan.env, PIPE_VARIABLE: f"{sockets}/{PIPE_NAME}"} if plan.build else {}


def files_named(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files and folders that exist and that these variables name."""
    words = (word for value in env.values() for word in value.split())
    return tuple(dict.fromkeys(w for w in words if w.startswith("/") and Path(w).exists()))


def outermost(env: Mapping[str, str]) -> list[str]:
    """Return those of them that lie in none of the others."""
    files = files_named(env)
    return [f for f in files if not any(f != o and f.startswith(o + "/") for o in files)]


def moved(env: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with other paths for these files, and for what lies in them."""
    return {name: _WORD.sub(lambda word: _moved(word[0], places), env[name]) for name in env}


def _moved(word: str, places: Mapping[str, str]) -> str:
    for file, place in places.items():
        if word == file or word.startswith(file.rstrip("/") + "/"):
            return place + word[len(file) :]
    return word
