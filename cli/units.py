"""Option types that take what docker users type: ``512m``, ``30s``, ``KEY=value``."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

import click

_MEMORY: Final = re.compile(r"(\d+)\s*(m|mb|mib|g|gb|gib)?", re.IGNORECASE)
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?", re.IGNORECASE)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Memory(click.ParamType[int]):
    """MiB: ``512``, ``512m``, ``1g``."""

    name = "MiB"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return MiB."""
        match = _MEMORY.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no amount of memory; e.g. 512 (MiB) or 1g", param, ctx)
        unit = (match[2] or "m").lower()
        return int(match[1]) * (1024 if unit.startswith("g") else 1)


class Seconds(click.ParamType[float]):
    """Seconds: ``30``, ``0.5``, ``30s``, ``2m``."""

    name = "seconds"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time; e.g. 30 (seconds), 500ms or 2m", param, ctx)
        return float(match[1]) * _SECONDS[(match[2] or "s").lower()]


class Variable(click.ParamType[tuple[str, str]]):
    """``KEY=value``, or ``KEY`` alone for the value that it has here."""

    name = "KEY=VALUE"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Take SKEP_ENV apart: quoted as in a shell, since values may hold spaces."""
        return shlex.split(rv)

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key:
            self.fail(f"{value!r} has no name before the =", param, ctx)
        if equals:
            return key, text
        if key not in os.environ:
            self.fail(f"{key} is not set here; say {key}=VALUE", param, ctx)
        return key, os.environ[key]


MEMORY: Final = Memory()
SECONDS: Final = Seconds()
VARIABLE: Final = Variable()
