"""The store of skep on a bare machine: TinyDB files in one folder, durable at every commit.

    catalogue.json  what the store is: its format and epoch; all runtimes and functions
    ledger.json     epochs of apis and leases of call numbers
    calls/…         the calls, see ``dbnode.shelf``

One commit writes each touched file whole and once. No change touches two files that must
agree, so nothing has to be atomic across files. Big pieces are durable before the page that
names them is written.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from dbnode.calls import Entry
from dbnode.catalogue import Catalogue
from dbnode.files import TEMPORARY, Disk, Files, explained
from dbnode.ledger import Ledger, used
from dbnode.listing import Query
from dbnode.seals import Layout
from dbnode.shelf import FOLDERS, Shelf
from dbnode.store import Changes
from dbnode.tiny import Page
from wire.counting import Buckets
from wire.errors import StoreUnavailable
from wire.models import CallRecord, Item

log = logging.getLogger(__name__)

FORMAT: Final = 1
CATALOGUE: Final = "catalogue.json"
LEDGER: Final = "ledger.json"
#: While this is there, the store is being wiped.
WIPING: Final = "wiping"
_ABOUT: Final = "store"
_KINDS: Final = ("runtimes", "functions")
_LEDGER: Final = "ledger"


class TinyStore:
    """Runtimes, functions and calls in TinyDB files on a disk."""

    name = "tinydb"

    def __init__(self, disk: Disk, layout: Layout | None = None) -> None:
        self._files = Files(disk)
        self._layout = layout or Layout()
        with explained("start"):
            if disk.exists(WIPING):
                wipe(disk)
            self._load()

    def __repr__(self) -> str:
        return f"<TinyStore {self._files.disk!r}: {self._shelf!r}>"

    def _load(self) -> None:
        self._shelf = Shelf(self._files, self._layout)
        self._shelf.load()
        self._pages = {
            CATALOGUE: Page(self._files, CATALOGUE, indented=True),
            LEDGER: Page(self._files, LEDGER, indented=True),
        }
        self._catalogue = self._read_catalogue(self._pages[CATALOGUE])
        plain = self._pages[LEDGER].get(_LEDGER, 1)
        ledger = msgspec.convert(plain, Ledger) if plain else Ledger()
        self._ledger = used(ledger, self._shelf.highest)

    def _read_catalogue(self, page: Page) -> Catalogue:
        about = page.get(_ABOUT, 1)
        if about is None:
            about = {"format": FORMAT, "epoch": uuid.uuid4().hex}
            page.put(_ABOUT, {1: about})
            page.save()
            self._files.settle()
            page.keep()
        if about["format"] != FORMAT:
            raise StoreUnavailable(
                f"the store is of format {about['format']}, this release knows {FORMAT}",
                hint="start the release that wrote it, or another --store",
            )
        plain = [doc for kind in _KINDS for _, doc in page.all(kind)]
        items = sorted((msgspec.convert(doc, Item) for doc in plain), key=lambda i: i.seq)
        return Catalogue(epoch=about["epoch"], items=tuple(items))

    @property
    def catalogue(self) -> Catalogue:
        """The committed catalogue."""
        return self._catalogue

    @property
    def ledger(self) -> Ledger:
        """The committed epochs and leases."""
        return self._ledger

    @property
    def highest(self) -> int:
        """The highest callNum recorded; 0 if there is none."""
        return self._shelf.highest

    @property
    def is_untidy(self) -> bool:
        """Whether there are pages to seal."""
        return self._shelf.is_untidy

    def counts(self) -> dict[str, int]:
        """Return the number of calls by ``project/function``."""
        return self._shelf.counts()

    def find(self, call_num: int) -> Entry | None:
        """Return a call's record without its big pieces; None if unknown."""
        return self._shelf.find(call_num)

    def find_key(self, key: str) -> int | None:
        """Return the number of the call with this key; None if unknown, or too old."""
        return self._shelf.find_key(key)

    def whole(self, entry: Entry) -> CallRecord:
        """Return the record of an entry that was found here, with its big pieces."""
        if not entry.held:
            return entry.record
        return self._shelf.whole(entry.record.call.call_num)

    def scan(self, query: Query) -> Iterator[Entry]:
        """Yield entries in the order of a listing, lazily, beyond its ``after``."""
        return self._shelf.scan(query)

    def prepare(self, numbers: Collection[int], keys: Collection[str]) -> None:
        """Do nothing: what is open is at hand."""

    def commit(self, changes: Changes) -> None:
        """Make a batch durable, or raise and leave everything as it was."""
        try:
            with explained("record"):
                self._write(changes)
        except BaseException:
            self._undo()
            raise
        self._keep(changes)

    def _write(self, changes: Changes) -> None:
        self._shelf.stage(changes.entries, changes.gone)
        self._files.settle()
        for page in self._stage_small(changes):
            page.save()
        self._shelf.save()
        self._files.settle()

    def _stage_small(self, changes: Changes) -> list[Page]:
        staged = []
        if changes.catalogue is not None:
            page = self._pages[CATALOGUE]
            self._stage_items(page, changes.catalogue)
            staged.append(page)
        if changes.ledger is not None:
            page = self._pages[LEDGER]
            page.put(_LEDGER, {1: msgspec.to_builtins(changes.ledger)})
            staged.append(page)
        return staged

    def _stage_items(self, page: Page, catalogue: Catalogue) -> None:
        for item in catalogue.items[len(self._catalogue.items) :]:
            kind = _KINDS[item.runtime is None]
            plain: dict[str, Any] = msgspec.to_builtins(item)
            told = {name: value for name, value in plain.items() if value is not None}
            page.put(kind, {item.seq: told})

    def _keep(self, changes: Changes) -> None:
        self._catalogue = changes.catalogue or self._catalogue
        self._ledger = changes.ledger or self._ledger
        for page in self._pages.values():
            page.keep()
        self._shelf.keep()
        self._shelf.highest = max(self._shelf.highest, *changes.entries, 0)

    def _undo(self) -> None:
        for page in self._pages.values():
            page.undo()
        self._shelf.undo()

    def tidy(self) -> None:
        """Seal pages whose calls have all ended."""
        try:
            self._shelf.tidy()
        except (OSError, StoreUnavailable) as error:
            log.warning("finished calls stay where they are for now: %s", error)

    @property
    def syncs(self) -> Buckets | None:
        """How long the disk took to sync, in seconds."""
        return self._files.syncs

    def pages(self) -> tuple[int, int]:
        """Return how many open and sealed pages of calls there are."""
        return self._shelf.pages()

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of its files by part; from any thread, while they change."""
        disk = self._files.disk
        parts = {"catalogue": CATALOGUE, "ledger": LEDGER}
        parts |= {folder.rpartition("/")[2]: folder for folder in FOLDERS[1:]}
        return {part: disk.size(path) for part, path in parts.items()}

    def close(self) -> None:
        """Do nothing: no file stays open."""


def wipe(disk: Disk) -> None:
    """Remove the store's own files, and nothing else; a crash on the way is finished later."""
    files = Files(disk)
    files.write(WIPING, b"a store is being wiped; the next start goes on with it\n")
    files.settle()
    for name in (CATALOGUE, LEDGER):
        _remove(files, name)
    for content in files.list("calls/content"):
        if content.isdecimal():
            _wipe_folder(files, f"calls/content/{content}")
    for folder in reversed(FOLDERS):
        _wipe_folder(files, folder)
    disk.sync_folder(".")
    files.discard(WIPING)
    disk.sync_folder(".")


def _wipe_folder(files: Files, folder: str) -> None:
    if not files.disk.exists(folder):
        return
    for name in files.list(folder):
        path = f"{folder}/{name}"
        if _is_ours(folder, name):
            _remove(files, path)
    files.disk.sync_folder(folder)
    if not files.list(folder):
        files.disk.remove_folder(folder)


def _is_ours(folder: str, name: str) -> bool:
    stem = name.removesuffix(TEMPORARY)
    if folder.startswith("calls/content/"):
        return stem.partition("-")[0].isdecimal()
    return stem.endswith(".json") and stem.removesuffix(".json").isdecimal()


def _remove(files: Files, path: str) -> None:
    files.discard(path)
    files.discard(path + TEMPORARY)
