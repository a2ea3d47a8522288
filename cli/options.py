"""What commands share: environment names, --url and --json at either place, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from skep import Client, NotReachable, SkepError

F = TypeVar("F", bound=Callable[..., Any])

EXIT_NOT_DONE: Final = 1
EXIT_REFUSED: Final = 2
EXIT_AWAY: Final = 3
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


@dataclass(slots=True)
class Target:
    """Where to speak to, and how to print the answer."""

    url: str | None = None
    token: str | None = None
    json: bool = False

    def client(self) -> Client:
        """Return a client that does not try again: people at a terminal would rather know."""
        return Client(self.url, token=self.token, retries=0)


class Command(click.Command):
    """A command whose option ``--foo-bar`` is also ``SKEP_FOO_BAR``, and whose errors help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = kwargs.setdefault("context_settings", {})
        settings.setdefault("auto_envvar_prefix", "SKEP")
        super().__init__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; print an error of skep with its hint and exit with its code."""
        try:
            return super().invoke(ctx)
        except SkepError as error:
            _print_error(error, as_json=target_of(ctx).json)
            sys.exit(exit_code(error))


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def exit_code(error: SkepError) -> int:
    """Return 2 for what the caller must change, 3 for what another time may go well."""
    away = isinstance(error, NotReachable) or error.status >= _SERVER_ERROR
    return EXIT_AWAY if away or error.status == _TOO_MANY else EXIT_REFUSED


def target_of(ctx: click.Context) -> Target:
    """Return the one target of this run of the program."""
    return ctx.find_root().ensure_object(Target)


def shared(*, at_root: bool = False) -> Callable[[F], F]:
    """Add --url, --token and --json; after the subcommand they win over those before it."""

    def add(function: F) -> F:
        environment = {"url": "SKEP_URL", "token": "SKEP_TOKEN", "json": "SKEP_JSON"}
        for option in (
            _option("--url", "Where skep is.  [default: http://127.0.0.1:3000]"),
            _option("--token", "The bearer token, where one is asked for."),
            _option("--json", "Print the whole answer as JSON.", is_flag=True),
        ):
            function = option(environment if at_root else None)(function)
        return function

    return add


def _option(name: str, text: str, **settings: Any) -> Callable[..., Callable[[F], F]]:
    def with_environment(environment: dict[str, str] | None) -> Callable[[F], F]:
        # Only the group reads the environment: else it would win over its own --url.
        return click.option(
            name,
            help=text,
            default=None,
            expose_value=False,
            callback=_remember,
            envvar=environment and environment[name[2:]],
            allow_from_autoenv=False,
            **settings,
        )

    return with_environment


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        setattr(target_of(ctx), option.name, value)


def print_json(answer: Any) -> None:
    """Print an answer as JSON on stdout."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Print something that is not the result."""
    click.echo(text, err=True)


def _print_error(error: SkepError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": error.as_dict()}), err=True)
        return
    say(f"{click.style('error', fg='red')}: {error.message} [{error.code}]")
    if error.hint:
        say(f"hint:  {error.hint}")
