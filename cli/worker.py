"""``skep worker``: see the nodes."""

from __future__ import annotations

import click

from cli.options import Group, print_json, shared, target_of


@click.group(cls=Group)
@shared()
def worker() -> None:
    """List the workers."""


@worker.command("list")
@shared()
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the workers: name, state, running of slots, sandbox."""
    target = target_of(ctx)
    with target.client() as client:
        workers = client.workers()
    if target.json:
        print_json(workers)
        return
    for one in workers:
        load = f"{one['running']}/{one['slots']}"
        click.echo(f"{one['name']:<12} {one['state']:<9} {load:>7}  {one['sandbox']}")
