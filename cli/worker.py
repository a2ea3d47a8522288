"""``skep worker``: see the nodes, take them out of service and back."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from cli import showing
from cli.display import table
from cli.frame import state_of
from cli.options import (
    EXIT_INTERRUPTED,
    EXIT_NOT_DONE,
    Group,
    connected,
    print_json,
    say,
    shared,
)
from cli.tables import Cell, Column
from cli.units import SECONDS
from cli.words import percent, plural
from skep import Worker

_COLUMNS: Final = (
    Column("NAME"), Column("STATE"), Column("RUNNING", right=True), Column("SLOTS", right=True),
    Column("WARM", 1, right=True), Column("GENERIC", 2, right=True),
    Column("HITS", 2, right=True), Column("SEEN", 2), Column("SANDBOX", 3),
    Column("VERSION", 4), Column("PID", 5, right=True), Column("LABELS", 3),
    Column("ISOLATION", 4, flexible=True),
)  # fmt: skip


@click.group(cls=Group)
@shared()
def worker() -> None:
    """List the workers; drain, resume and remove them."""


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


@worker.command()
@click.argument("name")
@click.option("--wait", type=SECONDS, help="Stop waiting then; it goes on draining.")
@shared()
@click.pass_context
def drain(ctx: click.Context, name: str, wait: float | None) -> None:
    """Give a worker nothing new, and wait until it is empty.

    What runs there finishes, what has not begun goes elsewhere. A worker that is started
    again, or resumed, takes calls again.

    Exits with 1 if something is still there when the waiting ends.
    """
    with connected(ctx) as (target, client):
        try:
            found = client.drain_worker(name, wait)
        except KeyboardInterrupt:
            say(f"\n{name} goes on draining; skep worker resume {name} takes it back")
            sys.exit(EXIT_INTERRUPTED)
    print_json(found) if target.json else say(_drained(found))
    sys.exit(0 if found.get("drained") else EXIT_NOT_DONE)


@worker.command()
@click.argument("name")
@shared()
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """Give a drained worker calls again."""
    with connected(ctx) as (target, client):
        found = client.resume_worker(name)
    print_json(found) if target.json else say(f"{name} takes calls again")


@worker.command()
@click.argument("names", nargs=-1, required=True)
@shared()
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Forget workers that are gone.

    Calls that ran there and waited for word of them end at once, or run again if they may.
    """
    with connected(ctx) as (target, client):
        status = showing.each(names, client.delete_worker, as_json=target.json)
    sys.exit(status)


def _drained(one: Worker) -> str:
    name = one["name"]
    if one.get("drained"):
        return f"{name} is drained: it may be stopped; skep worker resume {name} takes it back"
    if one["state"] == "gone":
        return f"{name} is gone"
    count = plural(one.get("attempts", one["running"]), "call")
    return f"{name} drains: {count} left; skep worker drain {name} waits on"


def _row(one: Worker) -> list[Cell]:
    return [
        Cell(one["name"]),
        state_of(one),
        Cell(str(one["running"])),
        Cell(str(one["slots"])),
        Cell(str(warm_of(one)), json.dumps(one.get("warm"))),
        Cell(str(sum((one.get("generic") or {}).values())), json.dumps(one.get("generic"))),
        Cell(percent(one.get("hitRatio"))),
        showing.when(one.get("lastSeen")),
        Cell(one["sandbox"]),
        Cell(one.get("version", "")),
        Cell(str(one["pid"])),
        Cell(" ".join(f"{key}={value}" for key, value in (one.get("labels") or {}).items())),
        Cell(one["isolation"]),
    ]


def warm_of(worker: Any) -> int:
    """Return how many warm sandboxes a worker has."""
    warm = worker.get("warm") or {}
    counts = warm.values() if isinstance(warm, dict) else warm
    return sum(one if isinstance(one, int) else 1 for one in counts)
