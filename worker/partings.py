"""Why there is no warm sandbox of a key: what became of the last one. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from wire.messages import ColdBecause

#: Keys and functions remembered; the one heard of longest ago is forgotten first.
MAX_KEYS: Final = 10_000


class Partings:
    """How the last sandbox of each key left, and which functions have had any."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, ColdBecause | None] = OrderedDict()
        self._functions: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Partings of {len(self._left)} keys>"

    def ready(self, key: str) -> None:
        """A sandbox of this key is ready."""
        self._functions[_function(key)] = None
        self._functions.move_to_end(_function(key))
        self._note(key, self._left.get(key))
        if len(self._functions) > MAX_KEYS:
            self._functions.popitem(last=False)

    def left(self, key: str, because: ColdBecause) -> None:
        """A sandbox of this key is no more."""
        self._note(key, because)

    def because(self, key: str) -> ColdBecause:
        """Return why a call of this key finds none."""
        if key in self._left:
            return self._left[key] or ColdBecause.DIED
        if _function(key) in self._functions:
            return ColdBecause.REVISION
        return ColdBecause.FIRST

    def _note(self, key: str, because: ColdBecause | None) -> None:
        self._left[key] = because
        self._left.move_to_end(key)
        if len(self._left) > MAX_KEYS:
            self._left.popitem(last=False)


def _function(key: str) -> str:
    return key.rpartition("@")[0]
