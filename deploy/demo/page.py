"""What the demo shows: numbered steps, commands, bars. Colour and motion on a terminal only."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from cli.bars import bar

_STYLES: Final = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36",
}  # fmt: skip
_INDENT: Final = "    "
_BAR: Final = 20


class Page:
    """Writes to one stream; a terminal that went away must not stop the tearing down."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")
        self._number = 0
        #: The step that is under way, for whoever has to say where it ended.
        self.doing = "the start"

    @property
    def width(self) -> int:
        """Return how many characters a line may have."""
        return min(100, shutil.get_terminal_size().columns) if self._is_terminal else 100

    def styled(self, text: str, style: str) -> str:
        """Return a text in a style, where there are any."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._has_colour else text

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show the title of a step, and how long it took if it ended well."""
        began = time.monotonic()
        self._number += 1
        self.doing = title
        self._write(f"\n{self.styled(f'{self._number}  {title}', 'bold')}\n")
        yield
        self.note(f"{time.monotonic() - began:.1f} s")

    def say(self, text: str, style: str = "") -> None:
        """Show a line of a step."""
        self._write(f"{_INDENT}{self.styled(text, style) if style else text}\n")

    def note(self, text: str) -> None:
        """Show a line that matters less."""
        self.say(text, "dim")

    def good(self, text: str) -> None:
        """Show what was proven."""
        self._write(f"  {self.styled('✓', 'green')} {text}\n")

    def bad(self, text: str) -> None:
        """Show what was lost or went wrong."""
        self._write(f"  {self.styled('✗', 'red')} {text}\n")

    def command(self, text: str) -> None:
        """Show a command, in as many lines as it needs."""
        mark = self.styled("$", "dim")
        for line in folded(text, self.width - 6):
            self._write(f"  {mark} {self.styled(line, 'cyan')}\n")
            mark = " "

    def bars(self, rows: dict[str, tuple[int, str]]) -> None:
        """Show a bar for each row: its number, and what is to be said of it."""
        most = max((number for number, _ in rows.values()), default=0) or 1
        for name, (number, text) in rows.items():
            drawn = self.styled(f"{bar(number / most, _BAR):<{_BAR}}", "cyan")
            self.say(f"{name:<8} {drawn} {number:>4}  {text}".rstrip())

    def live(self, text: str) -> None:
        """Show what is under way, over what was: on a terminal alone."""
        if self._is_terminal:
            shown = text.expandtabs().strip()[: self.width - len(_INDENT) - 1]
            self._put(f"\r\x1b[2K{_INDENT}{self.styled(shown, 'dim')}")

    def _write(self, text: str) -> None:
        self._put(f"\r\x1b[2K{text}" if self._is_terminal else text)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._is_terminal = self._has_colour = False
            self._stream = io.StringIO()


def folded(command: str, width: int) -> list[str]:
    """Return a command as lines that a shell takes for one; an option keeps its value."""
    lines = [""]
    for part in re.split(r" (?=-|\S+$)", command):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return lines
