"""``skep db``: a store moved or checked. The DB node's own program does it, on its files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.folder import default_folder
from cli.options import EXIT_INTERRUPTED, Group, shared, target_of
from cli.stores import StoreName

F = TypeVar("F", bound=Callable[..., Any])

_TOOL: Final = "dbnode.tool"


@click.group(cls=Group, short_help="Move a store, or check it, while skep is stopped.")
@shared()
def db() -> None:
    """Export, import or check what the DB node keeps, while it is stopped.

    STORE and DIR are those of skep up.
    """


_DATA: Final = "Where everything is kept.  [default: ~/.local/share/skep]"


def _placed(function: F) -> F:
    folder = click.Path(file_okay=False, path_type=Path)
    data = click.option("--data", type=folder, help=_DATA)
    store = click.option(
        "--store",
        type=StoreName(),
        metavar="STORE",
        default="tinydb",
        help="As of skep up.  [default: tinydb]",
    )
    return data(store(shared()(function)))


@db.command("export", short_help="Write all that a store holds to a file.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_placed
def export(file: str, data: Path | None, store: str) -> None:
    """Write runtimes, functions and calls to FILE as lines of JSON; - is stdout."""
    _run(data, store, "export", file)


@db.command("import", short_help="Take what was exported over into a new store.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_placed
def import_(file: str, data: Path | None, store: str) -> None:
    """Take an export over into a store that is new or empty; - is stdin.

    FILE is verified whole before anything is written. If it is interrupted, the same import
    goes on where it was.
    """
    _run(data, store, "import", file)


@db.command("check", short_help="Read all that a store holds; say what is wrong with it.")
@_placed
@click.pass_context
def check(ctx: click.Context, data: Path | None, store: str) -> None:
    """Read everything and compare; exit with 1 if something is damaged."""
    _run(data, store, "check", *["--json"] * target_of(ctx).json)


def _run(data: Path | None, store: str, *verb: str) -> None:
    folder = (data or default_folder()).absolute()
    command = [sys.executable, "-P", "-m", _TOOL, "--data", str(folder), *verb]
    # The store's URL may hold a password: every user can read a command line.
    with subprocess.Popen(command, env={**os.environ, "SKEP_STORE": store}) as tool:
        try:
            status = tool.wait()
        except KeyboardInterrupt:
            # The terminal has told the tool as well.
            tool.wait()
            sys.exit(EXIT_INTERRUPTED)
    sys.exit(status)
