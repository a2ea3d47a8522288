"""Names of stores: what the DB node is told, so that it means the same in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

#: Prefixes that a path follows.
_PATHS: Final = ("tinydb:", "sqlite:///")
_KINDS: Final = ("tinydb", "sqlite", "postgresql", "postgresql+psycopg", "postgres", "memory")


class StoreName(click.types.StringParamType):
    """The name of a store; a typing error is told before anything starts."""

    name = "STORE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """Make paths absolute; refuse what is none, without repeating what may be secret."""
        text = super().convert(value, param, ctx)
        kind = text.partition(":")[0]
        if kind not in _KINDS:
            self.fail(
                f"there is no store {kind!r}; say tinydb, sqlite:///FILE, "
                "postgresql://USER@HOST/DATABASE or memory",
                param,
                ctx,
            )
        return absolute(text)


def absolute(name: str) -> str:
    """Return a store's name with a path that does not depend on the working folder."""
    for prefix in _PATHS:
        path = name.removeprefix(prefix)
        if path not in (name, "", ":memory:"):
            return f"{prefix}{Path(path).absolute()}"
    return name
