"""``skep version``: what this command is, and what every process of the installation runs."""

from __future__ import annotations

from typing import Final

import click

from cli.display import table
from cli.options import connected, print_json, say, shared, target_of
from cli.tables import Cell, Column, status
from skep import Process
from wire.process import release
from wire.releases import PROTOCOL

_COLUMNS: Final = (
    Column("PROCESS"), Column("NAME"), Column("RELEASE"), Column("PROTOCOL", right=True),
    Column("STATE"), Column("REASON", flexible=True),
)  # fmt: skip


@click.command()
@shared()
@click.pass_context
def version(ctx: click.Context) -> None:
    """Show what this command and every process run.

    Processes of one protocol version work together whatever their releases; one of another
    is refused, and shown with the reason.
    """
    own = {"release": release(), "protocol": PROTOCOL}
    if not target_of(ctx).json:
        say(f"skep {own['release']}, protocol version {own['protocol']}")
    with connected(ctx) as (target, client):
        found = client.versions()
    if target.json:
        print_json({"client": own, **found})
    else:
        table(_COLUMNS, list(map(_row, found["processes"])))


def _row(one: Process) -> list[Cell]:
    return [
        Cell(one["process"]),
        Cell(one["name"]),
        Cell(one["release"] or "?"),
        Cell(str(one["protocol"] or "?")),
        status(one["state"]),
        Cell(one["reason"]),
    ]
