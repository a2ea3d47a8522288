"""Waiting for the end of a call, and showing how it ended."""

from __future__ import annotations

import base64
import sys
import time

import click

from cli.display import is_person, working
from cli.options import EXIT_INTERRUPTED, EXIT_NOT_DONE, print_json, say
from cli.words import printable
from skep import TERMINAL, Call, Client, SkepError

#: How often a person is told what a call is at.
_LOOK_S = 1.0


def for_end(client: Client, call: Call, wait: float | None) -> Call:
    """Return the record of a call when it has ended, or after ``wait`` seconds.

    On Ctrl-C the call goes on; its number is said, and the program ends.
    """
    number = call["callNum"]
    try:
        if is_person(err=True) and wait != 0:
            return _watched(client, call, wait)
        return client.wait_call(call, wait)
    except KeyboardInterrupt:
        say(f"\ncall {number} goes on; skep call wait {number}")
        sys.exit(EXIT_INTERRUPTED)
    except SkepError as error:
        error.hint = f"The call was accepted: skep call wait {number}. {error.hint}".strip()
        raise


def _watched(client: Client, call: Call, wait: float | None) -> Call:
    """Wait in steps, and say between them what the call is at."""
    began = time.monotonic()
    end = None if wait is None else began + wait
    # A call that is over within the first step needs no spinner.
    call = client.wait_call(call, min(_LOOK_S, wait) if wait else _LOOK_S)
    with working("", began) as work:
        while call["status"] not in TERMINAL and (end is None or time.monotonic() < end):
            work.text = f"call {call['callNum']} is {call['status']}"
            left_s = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
            call = client.wait_call(call, max(0.001, left_s))
    return call


def show(call: Call, *, as_json: bool) -> int:
    """Print the result of a call on stdout, anything else on stderr; return the exit code."""
    if as_json:
        print_json(call)
    elif call["status"] == "DONE" or call["result"]:
        _print_result(call)
    if call["status"] == "DONE":
        return 0
    if not as_json:
        say(ending(call))
    return EXIT_NOT_DONE


def _print_result(call: Call) -> None:
    if call.get("resultEncoding") == "base64":
        # Bytes that are no text: exactly as the function made them.
        sys.stdout.buffer.write(base64.b64decode(call["result"]))
        sys.stdout.buffer.flush()
    else:
        click.echo(call["result"])


def ending(call: Call) -> str:
    """Say how a call ended, or that it has not, and where to look next."""
    number = call["callNum"]
    if call["status"] not in TERMINAL:
        return f"call {number} is {call['status']}; skep call wait {number}"
    reason = call["reason"]
    why = f": {_lines(reason['message'])} [{reason['code']}]" if reason else ""
    return (
        f"call {number} ended {call['status']}{why}\n"
        f"hint:  skep call logs {number}; skep call explain {number}"
    )


def _lines(text: str) -> str:
    """Keep the lines of a text: the last words of an installer are lines."""
    return "\n".join(map(printable, text.splitlines()))
