"""The catalogue in memory: every revision of every runtime and function, in one order.

The DB node gives each change its seq; what it answers is applied here and published. New calls
are pinned to the newest revisions that are not deleted; older ones are found by key.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from wire import images
from wire.errors import UnknownFunction, UnknownRuntime
from wire.messages import Catalogue as CatalogueMessage
from wire.models import DEFAULT_PROJECT, Function, Item, Runtime, Spec, parse_key

#: Changes kept for answering "what came after seq n" without sending everything.
MAX_CHANGES: Final = 1024


class Catalogue:
    """All runtimes and functions, where they stand, and what changed lately."""

    def __init__(self) -> None:
        self.epoch = ""
        self.seq = 0
        self._runtimes: dict[tuple[str, str], list[Item]] = {}
        self._functions: dict[tuple[str, str], list[Item]] = {}
        #: How many revisions name each package.
        self._packages: Counter[str] = Counter()
        self._changes: deque[Item] = deque(maxlen=MAX_CHANGES)
        self._kept_from = 0
        self._specs: dict[tuple[str, str], Spec] = {}

    def __repr__(self) -> str:
        return f"<Catalogue {self.epoch} at {self.seq}, {len(self._functions)} functions>"

    def load(self, epoch: str, after: int, seq: int, items: Iterable[Item]) -> None:
        """Take what the store answered: all of it (``after`` 0), or what came after."""
        if after == 0 or epoch != self.epoch:
            self._runtimes.clear()
            self._functions.clear()
            self._packages.clear()
            self._changes.clear()
            # Of a snapshot nobody knows what it left out: deltas begin behind it.
            self._kept_from = seq
        self.epoch = epoch
        for item in items:
            self._put(item)
            if item.seq > self._kept_from:
                self._keep(item)
        self.seq = seq

    def apply(self, item: Item) -> CatalogueMessage | None:
        """Apply one change; return its publication, None if it is known or leaves a gap."""
        if item.seq != self.seq + 1:
            return None
        after, self.seq = self.seq, item.seq
        self._put(item)
        self._keep(item)
        return CatalogueMessage(
            session=0, epoch=self.epoch, after=after, seq=item.seq, items=(item,)
        )

    def answer(
        self, session: int, epoch: str, seq: int, keys: Iterable[str] = ()
    ) -> CatalogueMessage:
        """Return what a worker that stands at (epoch, seq) lacks, and the keys it asks for."""
        pinned, missing = self._pin(keys)
        if epoch == self.epoch and self._kept_from <= seq <= self.seq:
            after, items = seq, tuple(i for i in self._changes if i.seq > seq)
        else:
            after, items = 0, self._snapshot()
        return CatalogueMessage(
            session=session,
            epoch=self.epoch,
            after=after,
            seq=self.seq,
            items=items,
            pinned=pinned,
            missing=missing,
        )

    def runtimes(self) -> list[str]:
        """Return the names of the runtimes that may be used."""
        names = (name for (_, name), items in self._runtimes.items() if not items[-1].deleted)
        return sorted(names)

    def functions(self) -> list[str]:
        """Return the names of the functions that may be called."""
        found = self._functions.items()
        return sorted(name for (_, name), items in found if not items[-1].deleted)

    def runtime(self, name: str, project: str = DEFAULT_PROJECT) -> Runtime:
        """Return the newest revision of a runtime.

        Raises:
            UnknownRuntime: there is none of that name.
        """
        items = self._runtimes.get((project, name))
        runtime = items[-1].runtime if items and not items[-1].deleted else None
        if runtime is None:
            raise UnknownRuntime(
                f"there is no runtime {name!r}",
                hint="GET /runtimes lists them; POST /registerRuntime makes one",
            )
        return runtime

    def runtime_of(self, function: Function) -> Runtime:
        """Return the newest revision of a function's runtime; that of an image is built in.

        Raises:
            UnknownRuntime: it was deleted.
        """
        own = images.runtime_of(function)
        return own or self.runtime(function.runtime_name, function.project)

    def function(self, name: str, project: str = DEFAULT_PROJECT) -> Function:
        """Return the newest revision of a function.

        Raises:
            UnknownFunction: there is none of that name.
        """
        items = self._functions.get((project, name))
        function = items[-1].function if items and not items[-1].deleted else None
        if function is None:
            raise UnknownFunction(
                f"there is no function {name!r}",
                hint="GET /functions lists them; POST /registerFunction/RUNTIME/NAME makes one",
            )
        return function

    def revision(
        self, name: str, revision: int | None, project: str = DEFAULT_PROJECT
    ) -> Function:
        """Return one revision of a function that is there; None: the newest.

        Raises:
            UnknownFunction: there is no function of that name, or not that revision of it.
        """
        newest = self.function(name, project)
        if revision is None or revision == newest.revision:
            return newest
        found = self._function_at(project, name, revision)
        if found is None:
            raise UnknownFunction(
                f"function {name!r} has no revision {revision}",
                hint=f"its newest revision is {newest.revision}",
            )
        return found

    def revisions(self, name: str, project: str = DEFAULT_PROJECT) -> list[Function]:
        """Return every revision of a function that is there, ascending.

        Raises:
            UnknownFunction: there is none of that name.
        """
        self.function(name, project)
        items = self._functions[project, name]
        return [item.function for item in items if item.function and not item.deleted]

    def names(self, sha256: str) -> bool:
        """Return whether a revision of a function names this package."""
        return self._packages[sha256] > 0

    def spec(
        self, name: str, revision: int | None = None, project: str = DEFAULT_PROJECT
    ) -> Spec:
        """Return what a new call is pinned to.

        Raises:
            UnknownFunction: there is no function of that name, or not that revision of it.
            UnknownRuntime: its runtime was deleted.
        """
        if revision is None and (spec := self._specs.get((project, name))) is not None:
            return spec
        function = self.revision(name, revision, project)
        spec = Spec(function=function, runtime=self.runtime_of(function))
        if revision is None:
            self._specs[project, name] = spec
        return spec

    def pinned(
        self, project: str, function: str, revision: int, runtime_revision: int
    ) -> Spec | None:
        """Return the revisions that an accepted call was pinned to."""
        found = self._function_at(project, function, revision)
        runtime = found and (
            images.runtime_of(found)
            or self._runtime_at(project, found.runtime_name, runtime_revision)
        )
        return Spec(function=found, runtime=runtime) if found and runtime else None

    def _put(self, item: Item) -> None:
        self._specs.clear()
        if item.runtime is not None:
            items = self._runtimes.setdefault((item.runtime.project, item.runtime.name), [])
        elif item.function is not None:
            key = (item.function.project, item.function.function_name)
            items = self._functions.setdefault(key, [])
            if item.function.package is not None:
                self._packages[item.function.package.sha256] += 1
        items.append(item)

    def _keep(self, item: Item) -> None:
        if len(self._changes) == MAX_CHANGES:
            self._kept_from = self._changes[0].seq
        self._changes.append(item)

    def _snapshot(self) -> tuple[Item, ...]:
        newest = [items[-1] for items in self._runtimes.values()]
        newest += [items[-1] for items in self._functions.values()]
        return tuple(sorted((i for i in newest if not i.deleted), key=lambda i: i.seq))

    def _pin(self, keys: Iterable[str]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
        pinned: list[Item] = []
        missing = []
        for key in keys:
            try:
                spec = self.pinned(*parse_key(key))
            except ValueError:
                spec = None
            if spec is None:
                missing.append(key)
            else:
                if spec.function.image is None:
                    pinned.append(Item(seq=1, runtime=spec.runtime))
                pinned.append(Item(seq=1, function=spec.function))
        return tuple(pinned), tuple(missing)

    def _function_at(self, project: str, name: str, revision: int) -> Function | None:
        items = self._functions.get((project, name), ())
        found = (i.function for i in items if i.function and i.function.revision == revision)
        return next(found, None)

    def _runtime_at(self, project: str, name: str, revision: int) -> Runtime | None:
        items = self._runtimes.get((project, name), ())
        found = (i.runtime for i in items if i.runtime and i.runtime.revision == revision)
        return next(found, None)
