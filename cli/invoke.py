"""``skep invoke``: call a function and print its result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cli.options import EXIT_NOT_DONE, Command, print_json, say, shared, target_of
from skep import TERMINAL, Call

_INTERRUPTED = 130


@click.command(cls=Command)
@click.argument("function")
@click.argument("params", default="{}")
@click.option("--async", "no_wait", is_flag=True, help="Print the call's number and go.")
@click.option("--wait", type=click.FloatRange(0), help="Wait so many seconds at most.")
@click.option("--timeout", type=float, help="Seconds that the call may run.")
@click.option("--max-wait", type=float, help="Seconds in which it must have begun.")
@shared()
@click.pass_context
def invoke(
    ctx: click.Context,
    function: str,
    params: str,
    no_wait: bool,
    wait: float | None,
    timeout: float | None,
    max_wait: float | None,
) -> None:
    """Call FUNCTION with PARAMS: JSON, @FILE, or - for stdin. Prints the bare result."""
    limits = {"timeout": timeout, "maxWait": max_wait}
    options: dict[str, Any] = {
        name: value for name, value in limits.items() if value is not None
    }
    value = _params(params)
    target = target_of(ctx)
    with target.client() as client:
        call = client.submit_call(function, value, **options)
        if no_wait:
            print_json(call) if target.json else click.echo(call["callNum"])
            return
        try:
            call = client.wait_call(call, wait)
        except KeyboardInterrupt:
            say(f"call {call['callNum']} goes on; skep call show {call['callNum']}")
            sys.exit(_INTERRUPTED)
    sys.exit(_show(call, as_json=target.json))


def _params(text: str) -> Any:
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"{error.strerror}: {error.filename}") from error
    except ValueError as error:
        raise click.BadParameter(
            f'PARAMS is not JSON ({error}); e.g. \'{{"roll": "4d6"}}\''
        ) from error


def _show(call: Call, *, as_json: bool) -> int:
    if as_json:
        print_json(call)
    elif call["status"] == "DONE" or call["result"]:
        click.echo(call["result"])
    if call["status"] == "DONE":
        return 0
    say(ending(call))
    return EXIT_NOT_DONE


def ending(call: Call) -> str:
    """Say in one line how a call ended, or that it has not."""
    number = call["callNum"]
    if call["status"] not in TERMINAL:
        return f"call {number} is {call['status']}; skep call show {number}"
    reason = call["reason"]
    why = f": {reason['message']} [{reason['code']}]" if reason else ""
    return f"call {number} ended {call['status']}{why}\nlogs:  skep call logs {number}"
