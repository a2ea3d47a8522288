"""What an installer prints, from its beginning, for everyone who wants to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

OnText = Callable[[str], None]
#: What is shown again to who comes later; a miniworker shows hardly more (``printed``).
MAX_CHARS: Final = 2 << 20


class Tape:
    """The output of one installation while it is under way."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._chars = 0
        self._listeners: list[OnText] = []

    def __repr__(self) -> str:
        return f"<Tape of {self._chars} characters, {len(self._listeners)} listen>"

    def write(self, text: str) -> None:
        """Add what was printed; everyone who listens hears it."""
        self._chars += len(text)
        if self._chars <= MAX_CHARS:
            self._pieces.append(text)
        for listener in tuple(self._listeners):
            listener(text)

    def listen(self, listener: OnText) -> None:
        """Let someone hear all that was printed so far, and what follows."""
        if self._pieces:
            listener("".join(self._pieces))
        self._listeners.append(listener)

    def leave(self, listener: OnText) -> None:
        """Let someone hear nothing more; one who does not listen may leave too."""
        if listener in self._listeners:
            self._listeners.remove(listener)
