"""The front door of rich: colours, a spinner, a full screen. Plain text where no person looks.

It is imported when it is first needed: a command that prints one line starts without it.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from cli.tables import Column, Line, Row
from cli.tables import lines as laid_out
from cli.words import printable

if TYPE_CHECKING:
    from rich.console import Console


#: Where the texts of labelled facts begin, in columns.
_LABEL: Final = 17


def is_person(*, err: bool = False) -> bool:
    """Return whether a terminal shows this stream."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty()


def console(*, err: bool = False) -> Console:
    """Return a console on a standard stream that obeys --no-color and NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415 (it takes a quarter of the start)

    context = click.get_current_context(silent=True)
    plain = context is not None and context.color is False
    return Console(
        stderr=err, highlight=False, markup=False, emoji=False,
        color_system=None if plain else "auto",
    )  # fmt: skip


def table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table: fitted to a terminal for people, else tab-separated and whole."""
    if is_person():
        show(laid_out(columns, rows, console().width))
        return
    click.echo("\t".join(column.title for column in columns))
    for row in rows:
        click.echo("\t".join(cell.plain for cell in row))


def show(drawn: Sequence[Line]) -> None:
    """Print lines of styled pieces; without styles where no terminal reads them."""
    if is_person():
        console().print(assembled(drawn), soft_wrap=True)
        return
    for line in drawn:
        click.echo("".join(text for text, _ in line).rstrip())


def prose(text: str, indent: int = 0, *, err: bool = True) -> str:
    """Wrap a text between words where a person reads it, else leave it."""
    if not is_person(err=err):
        return text
    width = shutil.get_terminal_size().columns
    lines = [
        textwrap.fill(
            line, max(width, indent + 20), initial_indent=" " * indent,
            subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        )
        for line in text.splitlines()
    ]  # fmt: skip
    return "\n".join(lines).lstrip()


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print labelled facts, aligned; a text of several lines stays in its column."""
    for label, text in pairs:
        lines = text.splitlines() or [""]
        if is_person():
            safe = "\n".join(map(printable, lines))
            lines = [line.strip() for line in prose(safe, _LABEL, err=False).splitlines()]
        click.echo(f"{click.style(f'{label:<{_LABEL - 1}}', bold=True)} {lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(f"{'':<{_LABEL}}{line}".rstrip())


class Work:
    """Something that takes a while: shown as a spinner to a person, not at all elsewhere."""

    def __init__(self, text: str, began: float) -> None:
        self.text = text
        self._began = began
        self._spinner: Any = None
        self._print: Callable[[str], None] = lambda line: click.echo(line, err=True)

    def line(self, line: str) -> None:
        """Print a line above the spinner."""
        self._print(line)

    def __rich__(self) -> Any:
        from rich.spinner import Spinner  # noqa: PLC0415

        passed = time.monotonic() - self._began
        self._spinner = self._spinner or Spinner("dots")
        self._spinner.update(text=f"{self.text} {passed:.0f} s")
        return self._spinner


@contextmanager
def working(text: str, began: float | None = None) -> Iterator[Work]:
    """Show that something is under way, with the seconds it takes, while the block runs."""
    work = Work(text, time.monotonic() if began is None else began)
    if not is_person(err=True):
        yield work
        return
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    page = console(err=True)
    # ANSI of an installer is read, not shown as garbage; nothing is taken for markup.
    work._print = lambda line: page.print(Text.from_ansi(line))  # noqa: SLF001
    with Live(work, console=page, transient=True, refresh_per_second=10, redirect_stdout=False):
        yield work


class Counting:
    """How many of many are done: a bar for a person, nothing elsewhere."""

    def __init__(self, show: Callable[[int, str], None]) -> None:
        self._show = show

    def note(self, done: int, *, failed: int) -> None:
        """Say how many are done, and how many of these failed."""
        self._show(done, f"{failed:,} failed" if failed else "")


@contextmanager
def counting(text: str, total: int, done: int = 0) -> Iterator[Counting]:
    """Show how far something is while the block runs, with the time that is left."""
    if not is_person(err=True):
        yield Counting(lambda _done, _said: None)
        return
    from rich import progress  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[said]}", style="red"),
        progress.TimeRemainingColumn(),
    )
    page = console(err=True)
    with progress.Progress(
        *columns, console=page, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task(text, total=total, completed=done, said="")
        yield Counting(lambda at, said: bar.update(task, completed=at, said=said))


class FullScreen:
    """The alternate screen of a terminal, redrawn as a whole."""

    def __init__(self, page: Console, live: Any) -> None:
        self._page = page
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines, as they are now."""
        return self._page.width, self._page.height

    def draw(self, drawn: Sequence[Line]) -> None:
        """Show lines of styled pieces."""
        self._live.update(assembled(drawn), refresh=True)


def assembled(drawn: Sequence[Line]) -> Any:
    """Return lines of styled pieces as one renderable."""
    from rich.text import Text  # noqa: PLC0415

    between = Text("\n", no_wrap=True, overflow="ellipsis", end="")
    return between.join(Text.assemble(*line) for line in drawn)


@contextmanager
def full_screen() -> Iterator[FullScreen]:
    """Take the terminal's alternate screen for the block, and give it back."""
    from rich.live import Live  # noqa: PLC0415

    page = console()
    with Live(console=page, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        yield FullScreen(page, live)
