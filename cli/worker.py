"""``skep worker``: see the nodes."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from cli import showing
from cli.display import table
from cli.options import Group, connected, print_json, shared
from cli.tables import Cell, Column, status
from cli.words import percent
from skep import Worker

_COLUMNS: Final = (
    Column("NAME"), Column("STATE"), Column("RUNNING", right=True), Column("SLOTS", right=True),
    Column("WARM", 1, right=True), Column("GENERIC", 2, right=True),
    Column("HITS", 2, right=True), Column("SEEN", 2), Column("SANDBOX", 3),
    Column("PID", 5, right=True), Column("ISOLATION", 4, flexible=True),
)  # fmt: skip


@click.group(cls=Group)
@shared()
def worker() -> None:
    """List the workers."""


@worker.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@shared()
@click.pass_context
def list_(ctx: click.Context, quiet: bool) -> None:
    """List the workers: calls, slots, what is warm, hits."""
    with connected(ctx) as (target, client):
        found = client.workers()
    if quiet:
        showing.names([one["name"] for one in found], as_json=target.json)
    elif target.json:
        print_json(found)
    else:
        table(_COLUMNS, list(map(_row, found)))


def _row(one: Worker) -> list[Cell]:
    return [
        Cell(one["name"]),
        status(one["state"]),
        Cell(str(one["running"])),
        Cell(str(one["slots"])),
        Cell(str(warm_of(one)), json.dumps(one.get("warm"))),
        Cell(str(sum((one.get("generic") or {}).values())), json.dumps(one.get("generic"))),
        Cell(percent(one.get("hitRatio"))),
        showing.when(one.get("lastSeen")),
        Cell(one["sandbox"]),
        Cell(str(one["pid"])),
        Cell(one["isolation"]),
    ]


def warm_of(worker: Any) -> int:
    """Return how many warm sandboxes a worker has."""
    warm = worker.get("warm") or {}
    counts = warm.values() if isinstance(warm, dict) else warm
    return sum(one if isinstance(one, int) else 1 for one in counts)
