"""A replica of the catalogue: what may be run on this node, by revision key. Pure.

Changes come in one order (epoch, seq). What is old is dropped, what follows directly is
applied, and anything else is a gap: the answer to that is a SYNC, never a guess.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

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
        #: What calls that come now are pinned to, by project and name.
        self._newest: dict[tuple[str, str], Function] = {}
        self._newest_runtimes: dict[tuple[str, str], Runtime] = {}

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
        self._turn(message)
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

    def runtimes(self) -> list[Runtime]:
        """Return the newest revision of each runtime."""
        return list(self._newest_runtimes.values())

    def current(self) -> Iterator[Spec]:
        """Yield what calls that come now are pinned to."""
        for function in self._newest.values():
            if runtime := self._newest_runtime(function):
                yield Spec(function=function, runtime=runtime)

    def is_current(self, key: str) -> bool:
        """Return whether calls that come now are of this key; True while nothing is known."""
        if not self.epoch:
            return True
        try:
            project, name, revision, runtime_revision = parse_key(key)
        except ValueError:
            return False
        function = self._newest.get((project, name))
        if function is None or function.revision != revision:
            return False
        runtime = self._newest_runtime(function)
        return runtime is not None and runtime.revision == runtime_revision

    def is_missing(self, key: str) -> bool:
        """Return whether the api said that there is no such revision (any more)."""
        return key in self._missing

    def forget_missing(self, key: str) -> None:
        """Ask again the next time."""
        self._missing.discard(key)

    def _newest_runtime(self, function: Function) -> Runtime | None:
        place = (function.project, function.runtime_name)
        return images.runtime_of(function) or self._newest_runtimes.get(place)

    def _snapshot(self, message: Catalogue) -> Applied:
        self.epoch, self.seq = message.epoch, message.seq
        self._missing.clear()
        self._newest.clear()
        self._newest_runtimes.clear()
        self._turn(message)
        return Applied.CHANGED

    def _turn(self, message: Catalogue) -> None:
        """Take in what is newest from here on."""
        for item in message.items:
            self._put(item)
            if item.function:
                place = (item.function.project, item.function.function_name)
                self._newest.pop(place, None)
                if not item.deleted:
                    self._newest[place] = item.function
            if item.runtime:
                place = (item.runtime.project, item.runtime.name)
                self._newest_runtimes.pop(place, None)
                if not item.deleted:
                    self._newest_runtimes[place] = item.runtime

    def _put(self, item: Item) -> None:
        # Deleted ones stay: calls that were accepted before may still be pinned to them.
        if item.function:
            function = item.function
            place = (function.project, function.function_name, function.revision)
            self._functions[place] = function
        if item.runtime:
            runtime = item.runtime
            self._runtimes[runtime.project, runtime.name, runtime.revision] = runtime
