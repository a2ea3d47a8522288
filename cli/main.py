"""``skep``: the group of all commands."""

from __future__ import annotations

import click

from cli.call import call
from cli.completion import completion
from cli.db import db
from cli.demo import demo
from cli.dev import dev
from cli.doctor import doctor
from cli.function import function
from cli.function_build import build as build_function
from cli.invoke import invoke
from cli.options import Group, Target, shared
from cli.pushing import push_function, push_runtime
from cli.runtime import runtime
from cli.runtime_build import build as build_runtime
from cli.top import top
from cli.up import up
from cli.version import version
from cli.worker import worker
from wire.process import release


@click.group(cls=Group)
@click.version_option(release(), prog_name="skep")
@shared(at_root=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Functions as a service: one door, many workers, each call in its own cell."""
    ctx.ensure_object(Target)


for command in (
    up,
    demo,
    invoke,
    call,
    runtime,
    function,
    worker,
    db,
    top,
    dev,
    doctor,
    completion,
    version,
):
    main.add_command(command)
for command in (build_runtime, push_runtime):
    runtime.add_command(command)
for command in (build_function, push_function):
    function.add_command(command)

if __name__ == "__main__":
    main()
