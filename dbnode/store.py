"""What the DB node needs of a store: committed state to read, and one way to change it.

``commit`` takes a whole batch. It returns when all of it is durable, or raises
``StoreUnavailable`` and the state that is read stays as it was. Everything is called from
one thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.ledger import Ledger
from dbnode.listing import Query
from wire.counting import Buckets
from wire.models import CallRecord


@dataclass(slots=True)
class Changes:
    """What a batch changes; None stays as it is."""

    catalogue: Catalogue | None = None
    ledger: Ledger | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    #: Numbers of calls that are there, and go with all that they hold.
    gone: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.catalogue or self.ledger or self.entries or self.gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a store holds, in numbers."""

    calls: int = 0
    open_pages: int = 0
    sealed_pages: int = 0
    seq: int = 0
    next_call: int = 1
    #: The newest life of each api.
    epochs: dict[str, int] = field(default_factory=dict)


class Store(Protocol):
    """Runtimes, functions, calls, epochs and leases, kept."""

    @property
    def name(self) -> str:
        """The kind of the store, as ``ping`` tells it."""

    @property
    def catalogue(self) -> Catalogue:
        """The committed catalogue."""

    @property
    def ledger(self) -> Ledger:
        """The committed epochs and leases."""

    @property
    def highest(self) -> int:
        """The highest callNum recorded; 0 if there is none."""

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""

    def find(self, call_num: int) -> Entry | None:
        """Return a call's record without what is held elsewhere; None if unknown."""

    def find_key(self, key: str) -> int | None:
        """Return the number of the call with this key (``Entry.key``); None if unknown."""

    def whole(self, entry: Entry) -> CallRecord:
        """Return the record of an entry that was found here, with what is held."""

    def scan(self, query: Query) -> Iterator[Entry]:
        """Yield entries in the order of a listing, lazily, beyond its ``after``.

        What it does not want may be among them, or may be left out.
        """

    def prepare(self, numbers: Collection[int], keys: Collection[str]) -> None:
        """Be ready for a batch that will ask for these calls and keys.

        Only here may what is committed seem to change by itself: a store that was lost for a
        while is read anew.

        Raises:
            StoreUnavailable: the store is away; what it keeps in memory may still be read.
        """

    def commit(self, changes: Changes) -> None:
        """Make a batch durable.

        Raises:
            StoreUnavailable: nothing was changed; it may be tried again.
        """

    @property
    def is_untidy(self) -> bool:
        """Whether ``tidy`` would do something."""

    def tidy(self) -> None:
        """Do what makes later work cheaper, between batches; what fails is tried again."""

    @property
    def syncs(self) -> Buckets | None:
        """How long the disk took to sync, in seconds; None if there is none."""

    def pages(self) -> tuple[int, int]:
        """Return how many open and sealed pages of calls there are."""

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of its files by part; from any thread, while they change."""

    def close(self) -> None:
        """Let go of all files and locks."""
