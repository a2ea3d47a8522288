"""``skep runtime``: register runtimes, look at them, remove them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from cli import showing
from cli.display import is_person
from cli.naming import RUNTIME
from cli.options import Group, connected, print_json, shared
from cli.tables import Cell, Column

#: The runtimes that skep comes with lie beside its packages, installed or not.
RUNTIMES: Final = Path(__file__).resolve().parents[1] / "runtimes"
_COLUMNS: Final = (
    Column("NAME"), Column("REVISION", 2, right=True), Column("IMAGE", 3, flexible=True),
    Column("RUN", 0, flexible=True), Column("UPDATED", 1),
    Column("DESCRIPTION", 4, flexible=True),
)  # fmt: skip


@click.group(
    cls=Group,
    later={"build": "cli.runtime_build:build", "push": "cli.pushing:push_runtime"},
)
@shared()
def runtime() -> None:
    """Register, list, show or remove runtimes."""


@runtime.command()
@click.argument("source", metavar="NAME|FILE")
@shared()
@click.pass_context
def register(ctx: click.Context, source: str) -> None:
    """Register a runtime.

    NAME is one that skep comes with; FILE describes one as JSON.
    """
    description = load(source)
    with connected(ctx) as (target, client):
        answer = client.register_runtime(description)
    print_json(answer) if target.json else click.echo(answer["name"])
    target.say(f"runtime {answer['name']}, revision {answer['revision']}")


@runtime.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("-l", "--long", "is_long", is_flag=True,
              help="Details also where no terminal reads them.")  # fmt: skip
@shared()
@click.pass_context
def list_(ctx: click.Context, quiet: bool, is_long: bool) -> None:
    """List the runtimes: a table on a terminal, else their names."""
    with connected(ctx) as (target, client):
        showing.described(
            client.runtimes(), client.runtime, columns=_COLUMNS, row=_row, as_json=target.json,
            only_names=quiet or not (is_long or (is_person() and not target.json)),
        )  # fmt: skip


def _row(one: Any) -> list[Cell]:
    return [
        Cell(one["name"]),
        Cell(str(one["revision"])),
        Cell(one["image"]),
        Cell(one["run"]),
        showing.when(one.get("updatedAt")),
        Cell(one.get("description", "")),
    ]


@runtime.command()
@click.argument("name", type=RUNTIME)
@shared()
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """Show a runtime."""
    with connected(ctx) as (target, client):
        found = client.runtime(name)
    print_json(found) if target.json else showing.record(found)


@runtime.command()
@click.argument("names", type=RUNTIME, nargs=-1, required=True)
@shared()
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove runtimes that no function uses."""
    with connected(ctx) as (target, client):
        status = showing.each(names, client.delete_runtime, as_json=target.json)
    sys.exit(status)


def shipped() -> list[str]:
    """Return the names by which skep's own runtimes are asked for."""
    return sorted(path.parent.name for path in RUNTIMES.glob("*/runtime.json"))


def own(runtime: str) -> tuple[str, str] | None:
    """Return source and name of skep's own runtime that is meant, by either of the two."""
    source = runtime.removesuffix("runtime")
    return (source, str(load(source)["name"])) if source in shipped() else None


def load(source: str) -> dict[str, Any]:
    """Return the description of a runtime, by its name or from a file."""
    ours = RUNTIMES / source / "runtime.json"
    path = ours if "/" not in source and ours.is_file() else Path(source)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(
            f"{source} is neither a runtime that skep comes with ({', '.join(shipped())}) "
            f"nor a readable file ({error.strerror})"
        ) from error
    except ValueError as error:
        raise click.BadParameter(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise click.BadParameter(f"{path} holds no JSON object")
    return description
