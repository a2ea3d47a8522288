"""Calls on disk, a thousand to a page: found, staged, written, put away.

    calls/open/0000000001.json      calls 1 to 1000, while they may change
    calls/sealed/0000001001.json    a page whose calls have all ended
    calls/index/0000000001.json     what the sealed pages of calls 1 to 1,000,000 count
    calls/keys/…                    the Idempotency-Keys of sealed pages, see ``dbnode.keys``
    calls/content/0000000001/…      big pieces of calls 1 to 1000

A start reads open pages and the index alone, so it takes as long as there are calls that
have not ended, and a commit as long as the pages that it touches.
"""

from __future__ import annotations

import bisect
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from dbnode import rows
from dbnode.calls import Entry
from dbnode.content import Content
from dbnode.files import Files
from dbnode.index import Index
from dbnode.keys import Keys
from dbnode.listing import Query, Tally, beyond, is_descending, may_hold
from dbnode.places import OPEN, Places
from dbnode.rows import Doc, Pack
from dbnode.seals import Layout
from dbnode.tiny import Page
from wire.models import CallRecord

#: Pages kept in memory when nobody needs them: about 2 MB each.
CACHED_PAGES: Final = 8
FOLDERS: Final = (
    "calls",
    "calls/open",
    "calls/sealed",
    "calls/index",
    "calls/keys",
    "calls/content",
)
_CALLS: Final = "calls"


@dataclass(slots=True)
class _Staging:
    """A page as a batch will leave it."""

    page: Page
    tally: Tally
    pack: Pack
    #: (callNum, record before, record after); None: there was, or is, none.
    records: list[tuple[int, Entry | None, Entry | None]] = field(default_factory=list)


class Shelf:
    """All calls, by page; ``stage``, ``save`` and ``keep`` or ``undo`` make a commit."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self._content = Content(files, layout)
        self._index = Index(files, layout)
        self._keys = Keys(files, layout)
        #: Every page with calls, and the numbers of all in order.
        self._tallies: dict[int, Tally] = {}
        self._order: list[int] = []
        self._places = Places(files, layout)
        #: Open pages that ``tidy`` may seal.
        self._ripe: set[int] = set()
        #: Open pages that the index on the disk may call sealed: sealing them failed.
        self._half_sealed: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._cache: OrderedDict[int, Page] = OrderedDict()
        self._staging: dict[int, _Staging] = {}
        #: Undone pages whose file may hold more than they do, until they are saved again.
        self._stale: dict[int, Page] = {}
        self.highest = 0

    def __repr__(self) -> str:
        return f"<Shelf of {self._places!r}>"

    @property
    def is_untidy(self) -> bool:
        """Return whether there are pages to seal."""
        return bool(self._ripe)

    # Reading

    def pages(self) -> tuple[int, int]:
        """Return how many open and sealed pages there are."""
        return len(self._places.open), len(self._places.sealed)

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""
        return dict(self._counts)

    def find(self, call_num: int) -> Entry | None:
        """Return a call's entry; None if unknown."""
        doc = self._doc(call_num)
        return None if doc is None else rows.brief(doc)

    def find_key(self, key: str) -> int | None:
        """Return the number of the call with a key; None if unknown, or long ago."""
        return self._keys.find(key)

    def whole(self, call_num: int) -> CallRecord:
        """Return a known call's record with its big pieces."""
        doc = self._doc(call_num)
        if doc is None:
            raise KeyError(call_num)
        page = self._layout.page_of(call_num)
        return rows.whole(doc, lambda ref: self._content.fetch(page, ref))

    def scan(self, query: Query) -> Iterator[Entry]:
        """Yield entries in the order of a listing; reads a page at a time, where it must."""
        after, down = query.after, is_descending(query)
        for number in self._beyond(after, descending=down):
            if may_hold(query, self._tallies[number]):
                page = self._page(number)
                for call_num in beyond(page.numbers(_CALLS), after, descending=down):
                    doc = page.get(_CALLS, call_num)
                    if doc is not None:
                        yield rows.brief(doc)

    def _beyond(self, after: int | None, *, descending: bool) -> list[int]:
        order = self._order
        if not descending:
            first = self._layout.page_of((after or 0) + 1)
            return order[bisect.bisect_left(order, first) :]
        if after is None:
            return order[::-1]
        last = self._layout.page_of(max(after, 1))
        return order[: bisect.bisect_right(order, last)][::-1]

    def _doc(self, call_num: int) -> Doc | None:
        number = self._layout.page_of(call_num)
        if number not in self._tallies:
            return None
        return self._page(number).get(_CALLS, call_num)

    def _page(self, number: int) -> Page:
        page = self._stale.get(number) or self._cache.get(number)
        if page is None:
            page = Page(self._files, self._places.path(number))
        self._cache[number] = page
        self._cache.move_to_end(number)
        if len(self._cache) > CACHED_PAGES:
            self._cache.popitem(last=False)
        return page

    # Writing: ``stage``, settle, ``save``, settle, ``keep``; ``undo`` at any point

    def stage(self, entries: Mapping[int, Entry], gone: Collection[int] = ()) -> None:
        """Stage records; their big pieces are written, and durable once settled.

        ``gone`` are numbers of known calls that go.
        """
        grouped: dict[int, dict[int, Entry | None]] = {}
        for call_num, entry in chain(entries.items(), ((number, None) for number in gone)):
            grouped.setdefault(self._layout.page_of(call_num), {})[call_num] = entry
        for number, group in grouped.items():
            if number in self._places.sealed or number in self._half_sealed:
                self._unseal(number)
            self._content.write(number, self._stage_page(number, group).pack)

    def save(self) -> None:
        """Write the staged pages, and stale ones; durable once settled."""
        for page in self._unsaved().values():
            page.save()

    def keep(self) -> None:
        """Take the staged pages, which are durable now, for the state."""
        for page in self._unsaved().values():
            page.keep()
        self._stale.clear()
        newest = self._newest
        for number, staging in self._staging.items():
            self._adopt(number, staging.tally)
            for call_num, before, after in staging.records:
                self._keys.put(call_num, before, after)
            if any(after is None for _, _, after in staging.records):
                self._sweep(number)
        self._note_ripe(self._staging if newest == self._newest else self._places.open)
        self._staging.clear()

    def undo(self) -> None:
        """Forget what was staged; what a save may have left is overwritten by the next."""
        for number, page in self._unsaved().items():
            page.undo()
            if page.is_stale:
                self._stale[number] = page
        for number, staging in self._staging.items():
            # A page that may be on the disk may name the pack there.
            if number not in self._stale and staging.pack:
                self._content.discard(number, staging.pack.name)
        self._staging.clear()

    def _unsaved(self) -> dict[int, Page]:
        staged = {number: staging.page for number, staging in self._staging.items()}
        return {**self._stale, **staged}

    def _stage_page(self, number: int, group: Mapping[int, Entry | None]) -> _Staging:
        tally = self._tallies.get(number, Tally()).copy()
        pack = self._content.new_pack(min(group))
        staging = _Staging(self._page(number), tally, pack)
        self._staging[number] = staging
        docs: dict[int, Doc] = {}
        for call_num, entry in group.items():
            doc = staging.page.get(_CALLS, call_num)
            before = None if doc is None else rows.brief(doc)
            if entry is not None:
                docs[call_num] = rows.to_doc(entry, doc, pack)
                tally.put(before, entry)
            elif before is not None:
                tally.drop(before)
            staging.records.append((call_num, before, entry))
        staging.page.drop(_CALLS, group.keys() - docs.keys())
        staging.page.put(_CALLS, docs)
        return staging

    def _adopt(self, number: int, tally: Tally, *, sealed: bool = False) -> None:
        before = self._tallies.get(number)
        if before is None:
            bisect.insort(self._order, number)
            (self._places.sealed if sealed else self._places.open).add(number)
        else:
            self._counts.subtract(before.functions)
        self._counts += tally.functions
        self._tallies[number] = tally

    # Sealing

    @property
    def _newest(self) -> int:
        return self._order[-1] if self._order else -1

    def _note_ripe(self, numbers: Mapping[int, _Staging] | set[int]) -> None:
        for number in numbers:
            tally = self._tallies[number]
            if not tally.count or self._layout.is_ripe(tally, number, self._newest):
                self._ripe.add(number)
            else:
                self._ripe.discard(number)

    def tidy(self) -> None:
        """Put pages away whose calls have all ended, and remove those that have none left.

        Raises:
            OSError: the disk refuses; it will be tried again.
        """
        for number in sorted(self._ripe - self._stale.keys()):
            if not self._tallies[number].count:
                self._remove(number)
                continue
            self._keys.seal(number, self._entries(number))
            self._half_sealed.add(number)
            self._index.note(number, self._tallies[number])
            self._move(number, sealed=True)
            self._half_sealed.discard(number)
            self._ripe.discard(number)
        self._keys.expire(self._places.sealed)

    def _remove(self, number: int) -> None:
        """Remove what is left of a page without calls; a crash on the way is finished later."""
        self._discard(number)
        self._order.remove(number)
        del self._tallies[number]
        self._places.open.discard(number)
        self._ripe.discard(number)

    def _discard(self, number: int) -> None:
        self._content.remove(number)
        self._keys.remove(number)
        self._cache.pop(number, None)
        # Last: while it is there, a start finds the page and finishes this.
        self._files.discard(self._places.path(number, sealed=False))

    def _entries(self, number: int) -> Iterator[Entry]:
        return (rows.brief(doc) for _, doc in self._page(number).all(_CALLS))

    def _unseal(self, number: int) -> None:
        self._index.note(number, None)
        self._move(number, sealed=False)
        self._half_sealed.discard(number)
        self._ripe.add(number)

    def _move(self, number: int, *, sealed: bool) -> None:
        # Its place changes even if settling fails: the page read from the old one goes.
        self._cache.pop(number, None)
        self._places.move(number, sealed=sealed)

    # Starting

    def load(self) -> None:
        """Make the folders, finish what a crash cut off, and count what is there."""
        for folder in FOLDERS:
            self._files.make_folder(folder)
        self._files.settle()
        for number, tally in self._index.load():
            self._adopt(number, tally, sealed=True)
        self._places.restore()
        self._keys.load(self._places.sealed)
        for number in self._places.numbers(OPEN):
            self._load_open(number)
        self._note_ripe(self._places.open)
        if self._order:
            self.highest = max(self._page(self._newest).numbers(_CALLS))

    def _load_open(self, number: int) -> None:
        page, tally = self._page(number), Tally()
        for call_num, doc in page.all(_CALLS):
            entry = rows.brief(doc)
            tally.put(None, entry)
            self._keys.put(call_num, None, entry)
        if tally.count:
            self._adopt(number, tally)
            self._sweep(number)
        else:
            self._discard(number)

    def _sweep(self, number: int) -> None:
        """Remove the packs that no call of a page names."""
        docs = (doc for _, doc in self._page(number).all(_CALLS))
        named = {ref[0] for doc in docs for ref in rows.refs(doc).values()}
        self._content.sweep(number, named)
