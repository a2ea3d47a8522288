"""The workers that were refused for the protocol version they speak, for people. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from wire.releases import Stranger

#: How many are remembered, and how long one that says nothing any more (it asks every 5 s).
MAX_STRANGERS: Final = 100
FORGET_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Refused:
    """One of them, when it spoke last (wall, ms), and what it was told."""

    who: Stranger
    heard_ms: int
    why: str


class Strangers:
    """Who spoke another protocol version of late, by name."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, Refused] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Strangers {list(self._refused)}>"

    def heard(self, who: Stranger, why: str, now_ms: int) -> bool:
        """Note one that spoke; return whether that is news."""
        before = self._refused.pop(who.name, None)
        self._refused[who.name] = Refused(who, now_ms, why)
        if len(self._refused) > MAX_STRANGERS:
            self._refused.popitem(last=False)
        return before is None or before.who != who or _is_over(before, now_ms)

    def joined(self, name: str) -> None:
        """A node of this name was let in."""
        self._refused.pop(name, None)

    def lately(self, now_ms: int) -> list[Refused]:
        """Return those that are still asking."""
        return [one for one in self._refused.values() if not _is_over(one, now_ms)]


def _is_over(one: Refused, now_ms: int) -> bool:
    return now_ms - one.heard_ms > FORGET_MS
