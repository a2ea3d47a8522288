"""Option types that take what docker users type: ``512m``, ``30s``, ``KEY=value``."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

import click

from wire import durations

_MEMORY: Final = re.compile(r"(\d+)\s*(m|mb|mib|g|gb|gib)?", re.IGNORECASE)


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
    """Seconds: ``30``, ``0.5``, ``30s``, ``2m``, ``30d``."""

    name = "seconds"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        try:
            return durations.seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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


class Label(Variable):
    """``KEY=value``; a label has no value of its own here."""

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, str) and "=" not in value:
            self.fail(f"{value!r} is not KEY=VALUE, e.g. gpu=1", param, ctx)
        return super().convert(value, param, ctx)


LABEL: Final = Label()
MEMORY: Final = Memory()
SECONDS: Final = Seconds()
VARIABLE: Final = Variable()
