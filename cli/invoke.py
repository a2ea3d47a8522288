"""``skep invoke``: call a function and print its result."""

from __future__ import annotations

import sys
from typing import Any

import click

from cli import params, waiting
from cli.naming import FUNCTION
from cli.options import Command, connected, print_json, shared
from cli.units import SECONDS


@click.command(cls=Command)
@click.argument("function", type=FUNCTION)
@click.argument("words", nargs=-1, metavar="[JSON | KEY=VALUE ... | ARG ...]")
@click.option("--list", "is_list", is_flag=True,
              help="The words are a list of texts, whatever they look like.")  # fmt: skip
@click.option("-f", "--file", help="Read the params from a file; - is stdin.")
@click.option("--async", "no_wait", is_flag=True, help="Print the call's number and go.")
@click.option("--wait", type=SECONDS, help="Wait so many seconds at most.")
@click.option("--timeout", type=SECONDS, help="Seconds that the call may run.")
@click.option("--max-wait", type=SECONDS, help="Seconds in which it must have begun.")
@click.option("--revision", type=click.IntRange(1), allow_from_autoenv=False,
              help="Call an older revision.")  # fmt: skip
@click.option("--idempotency-key", help="Called again with the same key, it runs once.")
@shared()
@click.pass_context
def invoke(
    ctx: click.Context,
    /,
    function: str,
    words: tuple[str, ...],
    is_list: bool,
    file: str | None,
    no_wait: bool,
    wait: float | None,
    idempotency_key: str | None,
    **limits: Any,
) -> None:
    """Call FUNCTION and print the bare result.

    The params are one JSON text, or KEY=VALUE pairs whose values are JSON if they are JSON
    and text otherwise, or a file (-f FILE, @FILE; - is stdin). Several other words, or
    those after --list, are a list of texts: arguments. Without any: {}.

    \b
      skep invoke dice '{"roll": "4d6"}'
      skep invoke dice roll=4d6
      skep invoke dice -f params.json --timeout 30
      skep invoke convert in.png out.jpg
      skep invoke convert --list -- -quality 80 in.png
    """  # noqa: D301 (click wants the character)
    names = {"timeout": "timeout", "max_wait": "maxWait", "revision": "revision"}
    options = {names[key]: value for key, value in limits.items() if value is not None}
    given = params.read(words, file, is_list=is_list)
    with connected(ctx) as (target, client):
        call = client.submit_call(function, given, idempotency_key=idempotency_key, **options)
        if no_wait:
            print_json(call) if target.json else click.echo(call["callNum"])
            return
        call = waiting.for_end(client, call, wait)
        sys.exit(waiting.show(call, as_json=target.json))
