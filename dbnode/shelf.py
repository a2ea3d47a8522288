"""Calls on disk, a thousand to a page: found, staged, written, put away.

    calls/open/0000000001.json      calls 1 to 1000, while they may change
    calls/sealed/0000001001.json    a page whose calls have all ended
    calls/index/0000000001.json     what the sealed pages of calls 1 to 1,000,000 count
    calls/content/0000000001/…      big pieces of calls 1 to 1000

A start reads open pages and the index alone. The index decides where a page is: after a
crash between the two steps of sealing, the page is moved to where the index says.
"""

from __future__ import annotations

import bisect
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dbnode import rows
from dbnode.calls import Entry
from dbnode.files import TEMPORARY, Files
from dbnode.listing import Tally
from dbnode.rows import Pack, Ref
from dbnode.seals import MILLION, PAGE, first_of, is_ripe, page_of
from dbnode.tiny import Doc, Page
from wire.errors import StoreUnavailable
from wire.models import CallRecord

#: Pages kept in memory when nobody needs them: about 2 MB each.
CACHED_PAGES: Final = 8
FOLDERS: Final = ("calls", "calls/open", "calls/sealed", "calls/index", "calls/content")
_CALLS: Final = "calls"
_TALLIES: Final = "tallies"


@dataclass(slots=True)
class _Staging:
    """A page as a batch will leave it."""

    page: Page
    tally: Tally
    pack: Pack


class Shelf:
    """All calls, by page; ``stage``, ``save`` and ``keep`` or ``undo`` make a commit."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._tallies: dict[int, Tally] = {}
        self._order: list[int] = []
        self._sealed: set[int] = set()
        #: Pages that ``tidy`` may seal.
        self._ripe: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._cache: OrderedDict[int, Page] = OrderedDict()
        self._index: dict[int, Page] = {}
        self._staging: dict[int, _Staging] = {}
        #: Undone pages whose file may hold more than they do, until they are saved again.
        self._stale: dict[int, Page] = {}
        self.highest = 0

    def __repr__(self) -> str:
        open_pages = len(self._tallies) - len(self._sealed)
        return f"<Shelf of {open_pages} open and {len(self._sealed)} sealed pages>"

    @property
    def is_untidy(self) -> bool:
        """Return whether there are pages to seal."""
        return bool(self._ripe)

    # Reading

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""
        return dict(self._counts)

    def find(self, call_num: int) -> Entry | None:
        """Return a call's entry; None if unknown."""
        doc = self._doc(call_num)
        return None if doc is None else rows.brief(doc)

    def whole(self, call_num: int) -> CallRecord:
        """Return a known call's record with its big pieces."""
        doc = self._doc(call_num)
        if doc is None:
            raise KeyError(call_num)
        folder = _content(page_of(call_num))
        return rows.whole(doc, lambda ref: self._fetch(folder, ref))

    def scan(
        self, after: int | None, *, descending: bool, may_hold: Callable[[Tally], bool]
    ) -> Iterator[Entry]:
        """Yield entries in order of callNum, beyond ``after``; reads a page at a time."""
        for number in self._beyond(after, descending=descending):
            if may_hold(self._tallies[number]):
                page = self._page(number)
                for call_num in _ordered(page.numbers(_CALLS), after, descending=descending):
                    doc = page.get(_CALLS, call_num)
                    if doc is not None:
                        yield rows.brief(doc)

    def _beyond(self, after: int | None, *, descending: bool) -> list[int]:
        if descending:
            last = None if after is None else page_of(max(after, 1))
            end = len(self._order) if last is None else bisect.bisect_right(self._order, last)
            return self._order[:end][::-1]
        return self._order[bisect.bisect_left(self._order, page_of((after or 0) + 1)) :]

    def _doc(self, call_num: int) -> Doc | None:
        number = page_of(call_num)
        if number not in self._tallies:
            return None
        return self._page(number).get(_CALLS, call_num)

    def _fetch(self, folder: str, ref: Ref) -> bytes:
        pack, offset, length, digest = ref
        path = f"{folder}/{pack}"
        try:
            data = self._files.disk.read(path, offset, length)
        except OSError as error:
            raise StoreUnavailable(
                f"the store's file {path} cannot be read: {error}",
                hint="put back a copy of the store's folder",
            ) from error
        if rows.digest(data) != digest:
            raise StoreUnavailable(
                f"the store's file {path} is damaged at byte {offset}",
                hint="put back a copy of the store's folder",
            )
        return data

    def _page(self, number: int) -> Page:
        page = self._stale.get(number) or self._cache.get(number)
        if page is None:
            page = Page(self._files, self._path(number))
        self._cache[number] = page
        self._cache.move_to_end(number)
        if len(self._cache) > CACHED_PAGES:
            self._cache.popitem(last=False)
        return page

    def _path(self, number: int) -> str:
        return _sealed(number) if number in self._sealed else _open(number)

    # Writing: ``stage``, settle, ``save``, settle, ``keep``; ``undo`` at any point

    def stage(self, entries: Mapping[int, Entry]) -> None:
        """Stage records; their big pieces are written, and durable once settled."""
        grouped: dict[int, dict[int, Entry]] = {}
        for call_num, entry in entries.items():
            grouped.setdefault(page_of(call_num), {})[call_num] = entry
        for number, group in grouped.items():
            if number in self._sealed:
                self._unseal(number)
            staging = self._begin(number, min(group))
            self._put(staging, group)
            self._write_pack(number, staging.pack)

    def save(self) -> None:
        """Write the staged pages, and stale ones; durable once settled."""
        for page in {**self._pages_staged(), **self._stale}.values():
            page.save()

    def keep(self) -> None:
        """Take the staged pages, which are durable now, for the state."""
        for page in {**self._pages_staged(), **self._stale}.values():
            page.keep()
        self._stale.clear()
        newest = self._order[-1] if self._order else -1
        for number, staging in self._staging.items():
            self._adopt(number, staging.tally)
        self._note_ripe(newest)
        self._staging.clear()

    def undo(self) -> None:
        """Forget what was staged; what a save may have left is overwritten by the next."""
        pages = {**self._pages_staged(), **self._stale}
        for number, page in pages.items():
            page.undo()
            if page.is_stale:
                self._stale[number] = page
        for number, staging in self._staging.items():
            if number not in self._tallies and number not in self._stale:
                self._cache.pop(number, None)
            if number not in self._stale and staging.pack.bytes:
                self._discard(f"{_content(number)}/{staging.pack.name}")
        self._staging.clear()

    def _pages_staged(self) -> dict[int, Page]:
        return {number: staging.page for number, staging in self._staging.items()}

    def _begin(self, number: int, first: int) -> _Staging:
        tally = self._tallies.get(number, Tally()).copy()
        # Never a name again: what an undone commit left must not be taken for this one's.
        pack = Pack(f"{first}-{secrets.token_hex(6)}")
        staging = _Staging(self._page(number), tally, pack)
        self._staging[number] = staging
        return staging

    def _put(self, staging: _Staging, group: Mapping[int, Entry]) -> None:
        docs: dict[int, Doc] = {}
        for call_num, entry in group.items():
            before = staging.page.get(_CALLS, call_num)
            docs[call_num] = rows.to_doc(entry, before, staging.pack)
            staging.tally.put(None if before is None else rows.brief(before), entry)
        staging.page.put(_CALLS, docs)

    def _write_pack(self, number: int, pack: Pack) -> None:
        if pack.bytes:
            self._files.make_folder(_content(number))
            self._files.write(f"{_content(number)}/{pack.name}", bytes(pack.bytes))

    def _discard(self, path: str) -> None:
        try:
            self._files.discard(path)
            self._files.discard(path + TEMPORARY)
        except OSError:
            # Nothing names it: the next start removes it.
            return

    def _adopt(self, number: int, tally: Tally) -> None:
        before = self._tallies.get(number)
        if before is None:
            bisect.insort(self._order, number)
        else:
            self._counts.subtract(before.functions)
        self._counts += tally.functions
        self._tallies[number] = tally

    # Sealing

    def _note_ripe(self, newest_before: int) -> None:
        newest = self._order[-1] if self._order else -1
        numbers = self._staging if newest == newest_before else self._tallies
        for number in numbers:
            if number not in self._sealed and is_ripe(self._tallies[number], number, newest):
                self._ripe.add(number)
            else:
                self._ripe.discard(number)

    def tidy(self) -> None:
        """Put pages away whose calls have all ended.

        Raises:
            OSError: the disk refuses; it will be tried again.
        """
        for number in sorted(self._ripe - self._stale.keys()):
            self._note_sealed(number, self._tallies[number])
            self._move(number, to_sealed=True)
            self._ripe.discard(number)

    def _unseal(self, number: int) -> None:
        self._note_sealed(number, None)
        self._move(number, to_sealed=False)

    def _note_sealed(self, number: int, tally: Tally | None) -> None:
        """Write into the index that a page is sealed, with its tally, or not any more."""
        page = self._index_page(number)
        try:
            if tally is None:
                page.drop(_TALLIES, [number])
            else:
                page.put(_TALLIES, {number: _tally_doc(tally)})
            page.save()
            self._files.settle()
        except OSError:
            page.undo()
            raise
        page.keep()

    def _move(self, number: int, *, to_sealed: bool) -> None:
        places = (_open(number), _sealed(number))
        source, target = places if to_sealed else places[::-1]
        # A try that failed at settling has moved it already.
        if self._files.disk.exists(source):
            self._files.move(source, target)
        self._cache.pop(number, None)
        # Before it is settled: this is where the file is to be found from now on.
        (self._sealed.add if to_sealed else self._sealed.discard)(number)
        self._files.settle()

    def _index_page(self, number: int) -> Page:
        part = number // (MILLION // PAGE)
        if part not in self._index:
            self._index[part] = Page(self._files, f"calls/index/{_name(part * MILLION + 1)}")
        return self._index[part]

    # Starting

    def load(self) -> None:
        """Make the folders, finish what a crash cut off, and count what is there."""
        for folder in FOLDERS:
            self._files.make_folder(folder)
        self._files.settle()
        self._load_index()
        self._place_pages()
        for number in _numbers(self._files, "calls/open"):
            self._load_open(number)
        self._note_ripe(-2)
        self.highest = self._find_highest()

    def _load_index(self) -> None:
        for first in _firsts(self._files, "calls/index"):
            page = self._index_page(page_of(first))
            for number, doc in page.all(_TALLIES):
                self._sealed.add(number)
                self._adopt(number, _tally(doc))

    def _place_pages(self) -> None:
        """Move each page to where the index says that it is."""
        for number in _numbers(self._files, "calls/open"):
            if number in self._sealed:
                self._files.move(_open(number), _sealed(number))
        for number in _numbers(self._files, "calls/sealed"):
            if number not in self._sealed:
                self._files.move(_sealed(number), _open(number))
        self._files.settle()

    def _load_open(self, number: int) -> None:
        page, tally = self._page(number), Tally()
        named: set[str] = set()
        for _, doc in page.all(_CALLS):
            tally.put(None, rows.brief(doc))
            named |= {ref[0] for ref in rows.refs(doc).values()}
        if tally.count:
            self._adopt(number, tally)
        for pack in self._files.list(_content(number)):
            if pack not in named:
                self._discard(f"{_content(number)}/{pack}")

    def _find_highest(self) -> int:
        if not self._order:
            return 0
        return max(self._page(self._order[-1]).numbers(_CALLS))


def _name(first: int) -> str:
    return f"{first:010d}.json"


def _open(number: int) -> str:
    return f"calls/open/{_name(first_of(number))}"


def _sealed(number: int) -> str:
    return f"calls/sealed/{_name(first_of(number))}"


def _content(number: int) -> str:
    return f"calls/content/{first_of(number):010d}"


def _firsts(files: Files, folder: str) -> list[int]:
    names = (name.removesuffix(".json") for name in files.list(folder))
    return sorted(int(name) for name in names if name.isdecimal())


def _numbers(files: Files, folder: str) -> list[int]:
    return [page_of(first) for first in _firsts(files, folder)]


def _ordered(numbers: list[int], after: int | None, *, descending: bool) -> list[int]:
    if descending:
        return [number for number in reversed(numbers) if after is None or number < after]
    return [number for number in numbers if after is None or number > after]


def _tally_doc(tally: Tally) -> Doc:
    return {"functions": dict(tally.functions), "statuses": dict(tally.statuses)}


def _tally(doc: Doc) -> Tally:
    return Tally(Counter(doc["functions"]), Counter(doc["statuses"]))
