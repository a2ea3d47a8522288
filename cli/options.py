"""What commands share: environment names, options at either place, errors, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeVar

import click

from cli import near
from cli.display import prose
from skep import Client, NotReachable, SkepError

F = TypeVar("F", bound=Callable[..., Any])

EXIT_NOT_DONE: Final = 1
EXIT_REFUSED: Final = 2
EXIT_AWAY: Final = 3
EXIT_INTERRUPTED: Final = 130
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
#: A name for what was mistyped is worth this many seconds and no more.
_NEAR_S: Final = 2.0


@dataclass(slots=True)
class Target:
    """Where to speak to, and how to print the answer."""

    url: str | None = None
    token: str | None = None
    json: bool = False

    def client(self, timeout: float = 30.0) -> Client:
        """Return a client that does not try again: people at a terminal would rather know."""
        return Client(self.url, token=self.token, timeout=timeout, retries=0)

    def say(self, text: str) -> None:
        """Print what only people want to know beside the answer."""
        if not self.json:
            say(text)


class Command(click.Command):
    """A command whose option ``--foo-bar`` is also ``SKEP_FOO_BAR``, and whose errors help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = kwargs.setdefault("context_settings", {})
        settings.setdefault("auto_envvar_prefix", "SKEP")
        settings.setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; print an error of skep with its hint and exit with its code."""
        try:
            return super().invoke(ctx)
        except SkepError as error:
            target = target_of(ctx)
            _report(error, hint_of(error, ctx), as_json=target.json)
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            say("")
            sys.exit(EXIT_INTERRUPTED)


#: What users of docker type, and what it is here.
ALIASES: Final = {"ls": "list", "rm": "remove", "inspect": "show"}


class Group(Command, click.Group):
    """A group of such commands.

    ``later``: commands that are imported when they are asked for, and what they need with
    them, by name: ``module:attribute``.
    """

    command_class = Command
    group_class = type

    def __init__(
        self, *args: Any, later: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._later = later or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all, in order."""
        return sorted({*super().list_commands(ctx), *self._later})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or by the one that it has elsewhere."""
        return self._named(ctx, cmd_name) or self._named(ctx, ALIASES.get(cmd_name, cmd_name))

    def _named(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.commands and name in self._later:
            module, _, attribute = self._later[name].partition(":")
            self.add_command(getattr(import_module(module), attribute), name)
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for another command line's word, say what it is here."""
        here = near.ELSEWHERE.get(args[0])
        if here and ctx.parent is None and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"there is no command {args[0]!r}; try: skep {here}", ctx)
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click knows those alone that are imported.
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=names, ctx=ctx
            ) from None


def exit_code(error: SkepError) -> int:
    """Return 2 for what the caller must change, 3 for what another time may go well."""
    away = isinstance(error, NotReachable) or error.status >= _SERVER_ERROR
    return EXIT_AWAY if away or error.status == _TOO_MANY else EXIT_REFUSED


def target_of(ctx: click.Context) -> Target:
    """Return the one target of this run of the program."""
    return ctx.find_root().ensure_object(Target)


@contextmanager
def connected(ctx: click.Context) -> Iterator[tuple[Target, Client]]:
    """Give the target of this run and a client of it."""
    target = target_of(ctx)
    with target.client() as client:
        yield target, client


def shared(*, at_root: bool = False) -> Callable[[F], F]:
    """Add --url, --token, --json, --no-color; after the subcommand they win."""

    def add(function: F) -> F:
        environment = {"url": "SKEP_URL", "token": "SKEP_TOKEN", "json": "SKEP_JSON"}
        for option in (
            _option("--url", "Where skep is.  [default: http://127.0.0.1:3000]"),
            _option("--token", "The bearer token, where one is asked for."),
            _option("--json", "Print the whole answer as JSON.", is_flag=True),
        ):
            function = option(environment if at_root else None)(function)
        return _no_color(function)

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


def _no_color(function: F) -> F:
    return click.option(
        "--no-color",
        is_flag=True,
        default=None,
        expose_value=False,
        callback=_forbid_color,
        # So that errors in what follows it on the line have no colour either.
        is_eager=True,
        help="No colours (also NO_COLOR).",
    )(function)


def _forbid_color(ctx: click.Context, option: click.Parameter, value: bool | None) -> None:
    del option
    # https://no-color.org: set and not empty, whatever it says.
    if value or os.environ.get("NO_COLOR"):
        ctx.color = False


def print_json(answer: Any) -> None:
    """Print an answer as JSON on stdout."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Print something that is not the result."""
    click.echo(text, err=True)


def hint_of(error: SkepError, ctx: click.Context, name: str = "") -> str:
    """Return what to do about an error here, or the names that may have been meant.

    ``name`` is what was not found; else it is taken from the command's parameters.
    """
    target = target_of(ctx)
    name = near.given(error.code, ctx.params, name)
    known = _known(error.code, target) if name else ()
    return near.hint(error.code, error.hint, ctx.command_path, name, known)


def _known(code: str, target: Target) -> Sequence[str]:
    try:
        with target.client(_NEAR_S) as client:
            return client.functions() if code == near.UNKNOWN_FUNCTION else client.runtimes()
    except SkepError:
        return ()


def print_error(error: SkepError, hint: str) -> None:
    """Print an error for people, and what to do about it."""
    say(f"{click.style('error', fg='red')}: {prose(f'{error.message} [{error.code}]', 7)}")
    if hint:
        say(f"hint:  {prose(hint, 7)}")


def _report(error: SkepError, hint: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": {**error.as_dict(), "hint": hint}}), err=True)
    else:
        print_error(error, hint)
