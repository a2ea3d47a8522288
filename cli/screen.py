"""What a person sees: steps with their time, warnings, a block of facts, a table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import click


@dataclass(slots=True)
class Screen:
    """Writes results to stdout and everything else to stderr; colours on a terminal only."""

    began: float = field(default_factory=time.monotonic)
    _is_gone: bool = False

    def step(self, name: str, what: str, *, warning: bool = False) -> None:
        """Show one step of a start or a stop."""
        passed_s = time.monotonic() - self.began
        text = f"{passed_s:7.2f} s  {name:<8} {what}"
        self._echo(click.style(text, fg="yellow") if warning else text, err=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Show what a child wrote."""
        for line in lines:
            self._echo(click.style(f"    | {line}", dim=True), err=True)

    def error(self, message: str, hint: str = "") -> None:
        """Show what went wrong and what to do about it."""
        self._echo(click.style(f"error: {message}", fg="red"), err=True)
        if hint:
            self._echo(f"hint:  {hint}", err=True)

    def block(self, title: str, facts: Sequence[tuple[str, str]]) -> None:
        """Show a titled, aligned list of facts on stdout."""
        self._echo(f"\n{click.style(title, bold=True)}\n")
        for label, text in facts:
            for number, line in enumerate(text.splitlines() or [""]):
                self._echo(f"  {label if number == 0 else '':<9} {line}")
        self._echo("")

    def row(self, what: str, took_s: float, note: str = "") -> None:
        """Show one row of the demo's table on stdout."""
        took = f"{took_s * 1000:,.1f} ms"
        self._echo(f"  {what:<34} {click.style(f'{took:>12}', fg='cyan')}  {note}".rstrip())

    def _echo(self, text: str, *, err: bool = False) -> None:
        """Write; a terminal or pipe that went away must not stop the stopping."""
        if self._is_gone:
            return
        try:
            click.echo(text, err=err)
        except OSError:
            self._is_gone = True
