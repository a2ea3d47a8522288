"""How numbers and times are said to people. Nothing here asks the clock."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def seconds_at(moment: str | None) -> float | None:
    """Return an ISO 8601 time as seconds of the epoch, None if there is none."""
    if not moment:
        return None
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return None


def between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one time to another; clocks that disagree count as nothing."""
    first, last = seconds_at(start), seconds_at(end)
    return None if first is None or last is None else max(0.0, last - first)


def ago(moment: str | None, now: float) -> str:
    """Say how long ago something was: ``3 s ago``."""
    then = seconds_at(moment)
    if then is None:
        return "-"
    passed = max(0.0, now - then)
    return "now" if passed < 1 else f"{about(passed)} ago"


def about(seconds: float) -> str:
    """Say a duration in its largest unit, rounded down: ``3 s``, ``2 min``, ``5 d``."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def span(seconds: float | None) -> str:
    """Say a duration so that three digits count: ``0.4 ms``, ``12 ms``, ``1.25 s``."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def size(count: float | None) -> str:
    """Say a number of bytes: ``812 B``, ``1.4 KiB``."""
    if count is None:
        return "-"
    step = 0
    while count >= 1024 and step < len(_SIZES) - 1:
        count /= 1024
        step += 1
    return f"{count:.0f} B" if step == 0 else f"{count:.1f} {_SIZES[step]}"


def printable(text: str) -> str:
    """Return one line without anything that moves a cursor: a result may be hostile."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def breadth(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_breadth, text))


def _breadth(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int) -> str:
    """Shorten a text to one line of so many columns, an ellipsis for what is lost."""
    width = max(0, width)
    line = printable(text[: 4 * width + 4])
    if len(text) <= 4 * width + 4 and breadth(line) <= width:
        return line
    kept, used = [], 1
    for char in line:
        used += _breadth(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + "…" * (width > 0)


def plural(count: int, noun: str) -> str:
    """Say a number of things: ``1 file``, ``3 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(part: float | None) -> str:
    """Say a part of a whole: ``97%``; ``-`` if there is no whole."""
    return "-" if part is None else f"{100 * part:.0f}%"
