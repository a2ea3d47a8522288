"""Options of ``skep up`` for installing dependencies: they reach the workers by environment.

Not by their command lines, which every user of a machine can read: URLs may hold passwords.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=", re.ASCII)


class Assignment(click.types.StringParamType):
    """NAME=VALUE; several of them in one variable are quoted as in a shell."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """Refuse what is none, without repeating what may be a secret."""
        text = super().convert(value, param, ctx)
        if not _ASSIGNMENT.match(text):
            self.fail(f"{text.partition('=')[0]!r} is not NAME=VALUE", param, ctx)
        return text

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Take SKEP_BUILD_ENV apart."""
        return shlex.split(rv)


class Url(click.types.StringParamType):
    """Where an index is; a typing error would only be seen at the first install."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """Refuse what is none, without repeating what may hold a password."""
        text = super().convert(value, param, ctx)
        if "://" not in text:
            self.fail("it is no URL; write it like https://host/path", param, ctx)
        return text


def build_options(command: F) -> F:
    """Add --index-url, --proxy, --ca-bundle and --build-env."""
    for option in (
        click.option("--build-env", multiple=True, type=Assignment(), metavar="NAME=VALUE",
                     help="A variable for installing dependencies; repeatable."),
        click.option("--ca-bundle",
                     type=click.Path(exists=True, dir_okay=False, path_type=Path),
                     help="PEM file of the authorities trusted while installing."),
        click.option("--proxy", metavar="URL", help="The proxy used while installing."),
        click.option("--index-url", type=Url(), metavar="URL",
                     help="Where pip finds packages."),
    ):  # fmt: skip
        command = option(command)
    return command


def build_environment(
    index_url: str | None, proxy: str | None, ca_bundle: Path | None, build_env: Sequence[str]
) -> dict[str, str]:
    """Return the variables that say the same to every worker."""
    said = {
        "SKEP_INDEX_URL": index_url,
        "SKEP_PROXY": proxy,
        # Workers run in the data folder.
        "SKEP_CA_BUNDLE": str(ca_bundle.resolve()) if ca_bundle else None,
        "SKEP_BUILD_ENV": shlex.join(build_env) or None,
    }
    return {name: value for name, value in said.items() if value}
