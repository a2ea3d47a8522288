"""``skep call``: look at calls, their logs, and cancel them."""

from __future__ import annotations

import json

import click

from cli.options import Group, print_json, say, shared, target_of


@click.group(cls=Group)
@shared()
def call() -> None:
    """Show, read the logs of, or cancel a call."""


@call.command()
@click.argument("number", type=click.IntRange(1))
@shared()
@click.pass_context
def show(ctx: click.Context, number: int) -> None:
    """Show the record of a call."""
    target = target_of(ctx)
    with target.client() as client:
        record = client.call(number)
    if target.json:
        print_json(record)
        return
    for key, value in record.items():
        if value not in (None, "", []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{key:<16} {text}")


@call.command()
@click.argument("number", type=click.IntRange(1))
@shared()
@click.pass_context
def logs(ctx: click.Context, number: int) -> None:
    """Print what a call wrote: its stdout to stdout, its stderr to stderr."""
    target = target_of(ctx)
    with target.client() as client:
        found = client.logs(number)
    if target.json:
        print_json(found)
        return
    click.echo(found["stdout"], nl=False)
    click.echo(found["stderr"], nl=False, err=True)
    if found["omitted"]:
        say(f"({found['omitted']} bytes of the middle are left out)")


@call.command()
@click.argument("number", type=click.IntRange(1))
@shared()
@click.pass_context
def cancel(ctx: click.Context, number: int) -> None:
    """End a call. Prints the status it has now."""
    target = target_of(ctx)
    with target.client() as client:
        record = client.cancel(number)
    print_json(record) if target.json else click.echo(record["status"])
