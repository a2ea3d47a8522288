"""A replica of the catalogue: what may be run on this node, by revision key. Pure.

Changes come in one order (epoch, seq). What is old is dropped, what follows directly is
applied, and anything else is a gap: the answer to that is a SYNC, never a guess.
"""

from __future__ import annotations

import enum

from wire import images
from wire.messages import Catalogue
from wire.models import Function, Item, Runtime, Spec, parse_key


class Applied(enum.Enum):
    """What became of a CATALOGUE."""

    #: The replica stands at its seq now.
    CHANGED = "changed"
    #: Known already.
    OLD = "old"
    #: Something before it is missing: ask.
    GAP = "gap"


class Replica:
    """Functions and runtimes by project, name and revision."""

    def __init__(self) -> None:
        self.epoch = ""
        self.seq = 0
        self._functions: dict[tuple[str, str, int], Function] = {}
        self._runtimes: dict[tuple[str, str, int], Runtime] = {}
        self._missing: set[str] = set()

    def __repr__(self) -> str:
        return f"<Replica at {self.epoch}:{self.seq}, {len(self._functions)} functions>"

    def apply(self, message: Catalogue) -> Applied:
        """Take in a CATALOGUE from ROUTER or PUB."""
        for item in message.pinned:
            self._put(item)
        self._missing.update(message.missing)
        if message.after == 0 and (message.epoch != self.epoch or message.seq > self.seq):
            # A snapshot; the first change of all looks the same, and is the same.
            return self._snapshot(message)
        if message.epoch != self.epoch:
            return Applied.GAP
        if message.seq <= self.seq:
            return Applied.OLD
        if message.after > self.seq:
            return Applied.GAP
        for item in message.items:
            self._put(item)
        self.seq = message.seq
        return Applied.CHANGED

    def is_behind(self, epoch: str, seq: int) -> bool:
        """Return whether an api that stands there knows more than this replica."""
        return epoch != self.epoch or seq > self.seq

    def spec(self, key: str) -> Spec | None:
        """Return the revision of this key; None if it is not known here (yet)."""
        try:
            project, name, revision, runtime_revision = parse_key(key)
        except ValueError:
            return None
        function = self._functions.get((project, name, revision))
        if function is None:
            return None
        runtime = images.runtime_of(function) or self._runtimes.get(
            (project, function.runtime_name, runtime_revision)
        )
        return Spec(function=function, runtime=runtime) if runtime else None

    def is_missing(self, key: str) -> bool:
        """Return whether the api said that there is no such revision (any more)."""
        return key in self._missing

    def forget_missing(self, key: str) -> None:
        """Ask again the next time."""
        self._missing.discard(key)

    def _snapshot(self, message: Catalogue) -> Applied:
        self.epoch, self.seq = message.epoch, message.seq
        self._missing.clear()
        for item in message.items:
            self._put(item)
        return Applied.CHANGED

    def _put(self, item: Item) -> None:
        # Deleted ones stay: calls that were accepted before may still be pinned to them.
        if item.function:
            function = item.function
            place = (function.project, function.function_name, function.revision)
            self._functions[place] = function
        if item.runtime:
            runtime = item.runtime
            self._runtimes[runtime.project, runtime.name, runtime.revision] = runtime
