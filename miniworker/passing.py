"""What a build is given of its host: how package indexes are reached, and who reads along.

Which variables these are is worked out by the worker (docs/architecture.md, "What a build is
given"); how a sandbox gets them is the same for every driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from miniworker.building import PIPE_VARIABLE
from miniworker.sandbox import Plan
from miniworker.watching import PIPE_NAME


def to_build(plan: Plan, sockets: str) -> dict[str, str]:
    """Return the variables of a build, whose pipe lies in this folder; nothing for calls."""
    return {**plan.env, PIPE_VARIABLE: f"{sockets}/{PIPE_NAME}"} if plan.build else {}


def files_named(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files and folders that exist and that these variables name."""
    words = (word for value in env.values() for word in value.split())
    return tuple(dict.fromkeys(w for w in words if w.startswith("/") and Path(w).exists()))
