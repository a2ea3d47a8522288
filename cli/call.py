"""``skep call``: list calls, look at one, wait for it, cancel it, have it explained."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any, Final

import click

from cli import following, showing, waiting
from cli.display import is_person, table
from cli.explain import explain as explained
from cli.explain import stages_of
from cli.naming import CALL, FUNCTION
from cli.options import Group, connected, print_json, say, shared
from cli.tables import Cell, Column, status
from cli.units import SECONDS
from cli.words import clip, span
from skep import TERMINAL, Call

_STATUSES: Final = (
    "PENDING", "RUNNING", "DONE", "FAILED", "TIMEOUT", "OOM", "LOST", "CANCELLED",
)  # fmt: skip
_COLUMNS: Final = (
    Column("CALL", right=True), Column("FUNCTION", flexible=True), Column("STATUS"),
    Column("ACCEPTED"), Column("RAN", 1, right=True), Column("START", 2), Column("NODE", 3),
    Column("PARAMS", 5, flexible=True), Column("RESULT", 4, flexible=True),
)  # fmt: skip
#: Of params and results no more is shown in a table, in characters.
_SHOWN: Final = 60


@click.group(cls=Group)
@shared()
def call() -> None:
    """List, show, wait for, cancel, explain calls; read logs."""


@call.command("list")
@click.option("--status", type=click.Choice(_STATUSES, case_sensitive=False),
              help="Only those that stand so.")  # fmt: skip
@click.option("--function", type=FUNCTION, allow_from_autoenv=False,
              help="Only those of a function.")  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="How many.")  # fmt: skip
@click.option("--desc/--asc", default=True, help="Newest or oldest first.  [default: desc]")
@click.option("--after", type=click.IntRange(0), help="Those beyond this number in the order.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-q", "--quiet", is_flag=True, help="Numbers only.")
@shared()
@click.pass_context
def list_(
    ctx: click.Context, /, limit: int, desc: bool, follow: bool, quiet: bool, **filters: Any
) -> None:
    """List calls, the newest first.

    With -f, a line is printed whenever a call begins or changes, until Ctrl-C.
    """
    query = {key: value for key, value in filters.items() if value is not None}
    with connected(ctx) as (target, client):
        if follow:
            status = query.pop("status", None)
            for one in following.changes(client, query, limit, status):
                _line(one, as_json=target.json, quiet=quiet)
            return
        found = client.calls(order="desc" if desc else "asc", limit=limit, **query)
    if quiet:
        showing.names([str(one["callNum"]) for one in found], as_json=target.json)
    elif target.json:
        print_json(found)
    else:
        table(_COLUMNS, list(map(_row, found)))


def _row(one: Call) -> list[Cell]:
    params = json.dumps(one["params"], ensure_ascii=False)
    return [
        Cell(str(one["callNum"])),
        Cell(one["funcName"]),
        status(one["status"]),
        showing.when(one["acceptedAt"]),
        Cell(span(one["duration"]), str(one["duration"] or "")),
        Cell(one["start"] or ""),
        Cell(one["node"] or ""),
        Cell(clip(params, _SHOWN), params),
        Cell(clip(_outcome(one), _SHOWN), one["result"]),
    ]


def _outcome(one: Call) -> str:
    reason = one["reason"]
    return f"[{reason['code']}] {reason['message']}" if reason else one["result"]


def _line(one: Call, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(json.dumps(one, ensure_ascii=False))
    elif quiet:
        click.echo(one["callNum"])
    else:
        click.echo(following.line(one, shutil.get_terminal_size().columns))


@call.command()
@click.argument("number", type=CALL)
@shared()
@click.pass_context
def show(ctx: click.Context, number: int) -> None:
    """Show the record of a call."""
    with connected(ctx) as (target, client):
        record = client.call(number)
    print_json(record) if target.json else showing.record(record)


@call.command()
@click.argument("number", type=CALL)
@click.option("-f", "--follow", is_flag=True, help="Go on until the call has ended.")
@shared()
@click.pass_context
def logs(ctx: click.Context, number: int, follow: bool) -> None:
    """Print what a call wrote beside its result.

    Its stdout goes to stdout, its stderr to stderr.
    """
    with connected(ctx) as (target, client):
        found = following.logs(client, number) if follow else client.logs(number)
    if target.json:
        print_json(found)
        return
    click.echo(found["stdout"], nl=False)
    click.echo(found["stderr"], nl=False, err=True)
    if found["omitted"]:
        say(f"({found['omitted']} bytes of the middle are left out)")


@call.command()
@click.argument("number", type=CALL)
@click.option("--timeout", type=SECONDS, help="Wait so many seconds at most.")
@shared()
@click.pass_context
def wait(ctx: click.Context, number: int, timeout: float | None) -> None:
    """Wait for the end of a call; print its result."""
    with connected(ctx) as (target, client):
        record = waiting.for_end(client, client.call(number), timeout)
    sys.exit(waiting.show(record, as_json=target.json))


@call.command()
@click.argument("numbers", type=CALL, nargs=-1, required=True)
@shared()
@click.pass_context
def cancel(ctx: click.Context, numbers: tuple[int, ...]) -> None:
    """End calls. Prints the status that each has now."""
    with connected(ctx) as (target, client):
        records = [client.cancel(number) for number in numbers]
    if target.json:
        print_json(records if len(records) > 1 else records[0])
        return
    for record in records:
        click.echo(record["status"])
        if record["status"] not in TERMINAL:
            number = record["callNum"]
            say(f"call {number} is being ended; skep call wait {number} waits for it")


@call.command()
@click.argument("number", type=CALL)
@shared()
@click.pass_context
def explain(ctx: click.Context, number: int) -> None:
    """Say why a call went as it did.

    Why it was cold or warm, why that node, how long each stage took, which limit it met.
    """
    with connected(ctx) as (target, client):
        record: Any = client.call(number)
    now, width = time.time(), min(100, shutil.get_terminal_size().columns)
    if target.json:
        stages = {name: took * 1000 for name, took in stages_of(record)}
        text = explained(record, now, width=100, bars=False)
        print_json({"callNum": number, "text": text, "stages": stages})
        return
    click.echo(explained(record, now, width=width, bars=is_person()))
