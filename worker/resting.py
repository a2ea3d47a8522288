"""The idle sandboxes of a node, of each key in the order of their last use. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from worker.boxes import Sandbox


class Resting:
    """Who waits for work, by key."""

    def __init__(self) -> None:
        self._idle: dict[str, deque[Sandbox]] = {}

    def __repr__(self) -> str:
        return f"<Resting {self.counts()}, generic {self.generics()}>"

    def __iter__(self) -> Iterator[Sandbox]:
        return (box for idle in self._idle.values() for box in idle)

    def counts(self) -> dict[str, int]:
        """Return how many wait, by revision key."""
        kinds = self._idle.items()
        return {key: len(idle) for key, idle in kinds if not idle[0].is_generic}

    def generics(self) -> dict[str, int]:
        """Return how many generic ones wait, by runtime."""
        generic = (box.stand_in for box in self if box.is_generic)
        return Counter(spec.runtime.name for spec in generic if spec)

    def of(self, key: str) -> int:
        """Return how many of a key wait."""
        return len(self._idle.get(key, ()))

    def oldest(self) -> list[Sandbox]:
        """Return of each key the one that waits longest."""
        return [idle[0] for idle in self._idle.values()]

    def first(self, key: str) -> Sandbox:
        """Return the one of a key that waits longest."""
        return self._idle[key][0]

    def add(self, box: Sandbox) -> None:
        """Let one wait."""
        self._idle.setdefault(box.key, deque()).append(box)

    def take(self, key: str) -> Sandbox | None:
        """Take out the one of a key that was used last."""
        idle = self._idle.get(key)
        box = idle[-1] if idle else None
        if box is not None:
            self.remove(box)
        return box

    def remove(self, box: Sandbox) -> None:
        """Take out this one; one that does not wait is fine."""
        idle = self._idle.get(box.key)
        if idle and box in idle:
            idle.remove(box)
            if not idle:
                del self._idle[box.key]
