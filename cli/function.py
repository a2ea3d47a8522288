"""``skep function``: upload functions and list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import Group, print_json, say, shared, target_of


@click.group(cls=Group)
@shared()
def function() -> None:
    """Register functions, or list them."""


@function.command()
@click.argument("runtime")
@click.argument("name")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--timeout", type=float, help="Seconds that one call may run.")
@click.option("--memory", type=int, help="MiB that a sandbox may use.")
@click.option("--idempotent/--not-idempotent", default=None, help="May it run twice?")
@shared()
@click.pass_context
def register(
    ctx: click.Context,
    runtime: str,
    name: str,
    archive: Path,
    timeout: float | None,
    memory: int | None,
    idempotent: bool | None,
) -> None:
    """Upload ARCHIVE (zip, tar, tar.gz) as function NAME of RUNTIME."""
    given = {"timeout": timeout, "memory": memory, "idempotent": idempotent}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    target = target_of(ctx)
    with target.client() as client:
        answer = client.register_function(runtime, name, archive, **settings)
    print_json(answer) if target.json else click.echo(answer["functionName"])
    say(f"function {answer['functionName']}, revision {answer['revision']}")


@function.command("list")
@shared()
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the names of the functions."""
    target = target_of(ctx)
    with target.client() as client:
        names = client.functions()
    print_json(names) if target.json else click.echo("".join(f"{n}\n" for n in names), nl=False)
