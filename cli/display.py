"""The front door of rich: tables, a spinner, a full screen. Plain text where no person looks.

It is imported when it is first needed: a command that prints one line starts without it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

#: What a status looks like, beside being written.
STATUS_STYLES: Final = {
    "DONE": "green",
    "up": "green",
    "RUNNING": "cyan",
    "draining": "yellow",
    "CANCELLED": "yellow",
    "FAILED": "red",
    "TIMEOUT": "red",
    "OOM": "red",
    "LOST": "red",
    "gone": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Where the terminal is too narrow, columns with the highest ``rank`` go first, those with
    0 never; then texts of ``flexible`` ones are shortened.
    """

    title: str
    rank: int = 0
    right: bool = False
    flexible: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What people see, and what programs read (the same, unless ``raw`` says more exactly)."""

    text: str
    raw: str = ""
    style: str = ""

    @property
    def plain(self) -> str:
        """Return the text for a program: one line without tabs."""
        return " ".join((self.raw or self.text).split())


def status(word: str) -> Cell:
    """Return the cell of a status."""
    return Cell(word, style=STATUS_STYLES.get(word, ""))


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


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table: fitted to a terminal for people, else tab-separated and whole."""
    if not is_person():
        click.echo("\t".join(column.title for column in columns))
        for row in rows:
            click.echo("\t".join(cell.plain for cell in row))
        return
    page = console()
    page.print(_drawn(page, columns, rows))


def _drawn(page: Console, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Any:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    widths = [
        max(len(column.title), *(len(row[i].text) for row in rows), 0)
        if rows else len(column.title)
        for i, column in enumerate(columns)
    ]  # fmt: skip
    kept = fitting(columns, widths, page.width)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i in kept:
        column = columns[i]
        drawn.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True,
            overflow="ellipsis", min_width=None if column.flexible else widths[i],
        )  # fmt: skip
    for row in rows:
        drawn.add_row(*(Text(row[i].text, style=row[i].style) for i in kept))
    return drawn


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return which columns fit: the least important go until the rest does."""
    kept = list(range(len(columns)))

    def needed() -> int:
        # A flexible column is worth something from 12 characters on.
        return sum(min(widths[i], 12) if columns[i].flexible else widths[i] for i in kept) + (
            2 * len(kept)
        )

    while needed() > width:
        worst = max(kept, key=lambda i: columns[i].rank)
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
    return kept


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print labelled facts, aligned; a text of several lines stays in its column."""
    for label, text in pairs:
        first, *others = text.splitlines() or [""]
        click.echo(f"{click.style(f'{label:<16}', bold=True)} {first}".rstrip())
        for line in others:
            click.echo(f"{'':<16} {line}".rstrip())


class Work:
    """Something that takes a while: shown as a spinner to a person, not at all elsewhere."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.began = time.monotonic()
        self._spinner: Any = None
        self._print: Callable[[str], None] = lambda line: click.echo(line, err=True)

    def line(self, line: str) -> None:
        """Print a line above the spinner."""
        self._print(line)

    def __rich__(self) -> Any:
        from rich.spinner import Spinner  # noqa: PLC0415

        passed = time.monotonic() - self.began
        self._spinner = self._spinner or Spinner("dots")
        self._spinner.update(text=f"{self.text} {passed:.0f} s")
        return self._spinner


@contextmanager
def working(text: str) -> Iterator[Work]:
    """Show that something is under way, with the seconds it takes, while the block runs."""
    work = Work(text)
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


class FullScreen:
    """The alternate screen of a terminal, redrawn as a whole."""

    def __init__(self, page: Console, live: Any) -> None:
        self._page = page
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines, as they are now."""
        return self._page.width, self._page.height

    def draw(self, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Show lines, each made of (text, style) pieces."""
        self._live.update(assembled(lines), refresh=True)


def assembled(lines: Sequence[Sequence[tuple[str, str]]]) -> Any:
    """Return lines of (text, style) pieces as one renderable."""
    from rich.text import Text  # noqa: PLC0415

    text = Text("\n", no_wrap=True, overflow="ellipsis", end="")
    return text.join([Text.assemble(*line) for line in lines])


@contextmanager
def full_screen() -> Iterator[FullScreen]:
    """Take the terminal's alternate screen for the block, and give it back."""
    from rich.live import Live  # noqa: PLC0415

    page = console()
    with Live(console=page, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        yield FullScreen(page, live)
