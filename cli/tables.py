"""Tables as lines of styled pieces, fitted to a width. Who prints them is another matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cli.words import breadth, clip

#: A text and its style.
Piece = tuple[str, str]
Line = list[Piece]
Row = Sequence["Cell"]

#: What a status looks like, beside being written.
STYLES: Final = {
    "DONE": "green",
    "up": "green",
    "RUNNING": "cyan",
    "draining": "yellow",
    "silent": "yellow",
    "CANCELLED": "yellow",
    "FAILED": "red",
    "TIMEOUT": "red",
    "OOM": "red",
    "LOST": "red",
    "gone": "red",
    "refused": "red",
}
_GAP: Final = 2
#: A flexible column is worth its place from so many characters on.
_WORTH: Final = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Where there is too little room, columns with the highest ``rank`` go first, those with 0
    never; then texts of ``flexible`` ones are shortened.
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
    return Cell(word, style=STYLES.get(word, ""))


def lines(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Line]:
    """Return a table of at most so many columns of a terminal, its heading first."""
    natural = [
        max(breadth(column.title), *(breadth(row[i].text) for row in rows), 0)
        for i, column in enumerate(columns)
    ]
    kept = fitting(columns, natural, width)
    widths = _shrunk(columns, natural, kept, width)
    heading = [Cell(column.title, style="bold") for column in columns]
    return [_line(columns, row, kept, widths) for row in (heading, *rows)]


def fitting(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return which columns fit: the least important go until the rest does."""
    kept = list(range(len(columns)))

    def needed() -> int:
        least = [min(natural[i], _WORTH) if columns[i].flexible else natural[i] for i in kept]
        return sum(least) + _GAP * (len(kept) - 1)

    while needed() > width:
        worst = max(kept, key=lambda i: columns[i].rank)
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
    return kept


def _shrunk(
    columns: Sequence[Column], natural: Sequence[int], kept: Sequence[int], width: int
) -> dict[int, int]:
    """Return the widths of the kept columns: the widest flexible one gives way first."""
    widths = {i: natural[i] for i in kept}
    flexible = [i for i in kept if columns[i].flexible]
    over = sum(widths.values()) + _GAP * (len(kept) - 1) - width
    while over > 0 and flexible:
        widest = max(flexible, key=lambda i: widths[i])
        others = [widths[i] for i in flexible if i != widest]
        # Down to the next one at once, then one by one.
        step = min(over, max(1, widths[widest] - max(others, default=0)))
        step = min(step, widths[widest] - 1)
        if step <= 0:
            break
        widths[widest] -= step
        over -= step
    return widths


def _line(
    columns: Sequence[Column], row: Row, kept: Sequence[int], widths: dict[int, int]
) -> Line:
    pieces: Line = []
    for i in kept:
        text = clip(row[i].text, widths[i])
        pad = " " * (widths[i] - breadth(text))
        if i != kept[-1]:
            after = " " * _GAP
        else:
            pad, after = (pad if columns[i].right else ""), ""
        left, right = (pad, "") if columns[i].right else ("", pad)
        pieces += [(left, ""), (text, row[i].style), (right + after, "")]
    return [piece for piece in pieces if piece[0]]
