"""``skep runtime``: register runtimes and list them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from cli.options import Group, print_json, say, shared, target_of

#: The runtimes that skep comes with lie beside its packages, installed or not.
RUNTIMES: Final = Path(__file__).resolve().parents[1] / "runtimes"


@click.group(cls=Group)
@shared()
def runtime() -> None:
    """Register runtimes, or list them."""


@runtime.command()
@click.argument("source", metavar="NAME|FILE")
@shared()
@click.pass_context
def register(ctx: click.Context, source: str) -> None:
    """Register a runtime that skep comes with (NAME), or one described by a JSON FILE."""
    description = load(source)
    target = target_of(ctx)
    with target.client() as client:
        answer = client.register_runtime(description)
    print_json(answer) if target.json else click.echo(answer["name"])
    say(f"runtime {answer['name']}, revision {answer['revision']}")


@runtime.command("list")
@shared()
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the names of the runtimes."""
    target = target_of(ctx)
    with target.client() as client:
        names = client.runtimes()
    print_json(names) if target.json else click.echo("".join(f"{n}\n" for n in names), nl=False)


def load(source: str) -> dict[str, Any]:
    """Return the description of a runtime, by its name or from a file."""
    shipped = RUNTIMES / source / "runtime.json"
    path = shipped if "/" not in source and shipped.is_file() else Path(source)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = sorted(p.parent.name for p in RUNTIMES.glob("*/runtime.json"))
        raise click.BadParameter(
            f"{source} is neither a runtime that skep comes with ({', '.join(names)}) "
            f"nor a readable file ({error.strerror})"
        ) from error
    except ValueError as error:
        raise click.BadParameter(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise click.BadParameter(f"{path} holds no JSON object")
    return description
