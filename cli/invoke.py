"""``skep invoke``: call a function and print its result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cli import params, waiting
from cli.mapping import Mapping, run
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
@click.option("--map", "mapped", metavar="FILE",
              help="Call it with the JSON of each line; - is stdin.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="With --map: of the results; the same command goes on.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 256), default=16, show_default=True,
              help="With --map: calls at once.")  # fmt: skip
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
    mapped: str | None,
    **more: Any,
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
      skep invoke dice --map params.jsonl --out results.jsonl
    """  # noqa: D301 (click wants the character)
    names = {"timeout": "timeout", "max_wait": "maxWait", "revision": "revision"}
    out, concurrency = more.pop("out"), more.pop("concurrency")
    options = {names[key]: value for key, value in more.items() if value is not None}
    if mapped is not None:
        if words or file or no_wait or wait is not None:
            raise click.UsageError("--map takes params from its file and waits for all calls")
        mapping = Mapping(
            function=function, file=mapped, out=out, concurrency=concurrency,
            key=idempotency_key, options=options,
        )  # fmt: skip
        with connected(ctx) as (_, client):
            sys.exit(run(client, mapping))
    if out is not None:
        raise click.UsageError("--out is for --map FILE")
    given = params.read(words, file, is_list=is_list)
    with connected(ctx) as (target, client):
        call = client.submit_call(function, given, idempotency_key=idempotency_key, **options)
        if no_wait:
            print_json(call) if target.json else click.echo(call["callNum"])
            return
        call = waiting.for_end(client, call, wait)
        sys.exit(waiting.show(call, as_json=target.json))
