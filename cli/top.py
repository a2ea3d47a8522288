"""``skep top``: workers, queues, running calls and the latest ends, live."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from cli import snapshots
from cli.display import full_screen, is_person, show
from cli.frame import Snapshot, frame
from cli.options import Command, Target, print_json, shared, target_of

#: How often the screen is drawn again, in seconds: ages grow, windows change their size.
_DRAW_S: Final = 0.5
#: Where no terminal tells its width, in columns.
_WIDTH: Final = 120


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Print one snapshot and end.")
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@shared()
@click.pass_context
def top(ctx: click.Context, once: bool, interval: float) -> None:
    """Watch workers, queues and calls live; q quits.

    Where no terminal reads it, and with --once or --json, one snapshot is printed.
    """
    target = target_of(ctx)
    with target.client() as client:
        # Who is not there at the beginning is an error, not a screen that waits.
        first = snapshots.take(client)
    if target.json or once or not is_person() or os.environ.get("TERM", "dumb") == "dumb":
        _print(first, as_json=target.json)
        return
    try:
        _live(target, interval, first)
    except KeyboardInterrupt:
        return


def _print(snapshot: Snapshot, *, as_json: bool) -> None:
    if as_json:
        print_json(snapshot.as_dict())
        return
    width = shutil.get_terminal_size().columns if is_person() else _WIDTH
    show(frame(snapshot, time.time(), width))


def _live(target: Target, interval_s: float, first: Snapshot) -> None:
    # Without it the terminal would stay as it is while we draw.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        snapshots.Poller(target, interval_s, first) as poller,
        _keys(),
        full_screen() as screen,
    ):
        while True:
            width, height = screen.size
            screen.draw(frame(poller.latest, time.time(), width, height))
            if b"q" in _keys_pressed(_DRAW_S).lower():
                return


@contextmanager
def _keys() -> Iterator[None]:
    """Let keys come one by one, unseen; as before at the end."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _keys_pressed(limit_s: float) -> bytes:
    """Return what was typed, as soon as something is, or nothing in time."""
    if not sys.stdin.isatty():
        time.sleep(limit_s)
        return b""
    ready, _, _ = select.select([sys.stdin], [], [], limit_s)
    # Not through the buffer of sys.stdin, into which select cannot see.
    return os.read(sys.stdin.fileno(), 64) if ready else b""
