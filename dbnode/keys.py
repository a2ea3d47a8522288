"""Which call has which Idempotency-Key: looked up in memory, whatever has accumulated.

    calls/keys/0000001001.json      the keys of a sealed page (open pages tell their own)

A key is known for a day after its call was accepted, at least: a sealed page whose newest
keyed call is older than that, both beside the newest call of all and by this host's clock,
loses its keys: so one clock that is wrong forgets nothing early.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dbnode.calls import KEY_KNOWN_MS, Entry, instant_ms
from dbnode.files import Files
from dbnode.seals import Layout
from dbnode.tiny import Page

FOLDER: Final = "calls/keys"
_KEYS: Final = "keys"


@dataclass(slots=True)
class _PageKeys:
    """The keys of one page, and when the newest of their calls was accepted."""

    names: set[bytes] = field(default_factory=set)
    newest_ms: int = 0


class Keys:
    """The calls by key; sixteen bytes stand for a key, so a long one costs no more."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self._calls: dict[bytes, int] = {}
        self._pages: dict[int, _PageKeys] = {}
        self._newest_ms = 0

    def __repr__(self) -> str:
        return f"<Keys of {len(self._calls)} calls on {len(self._pages)} pages>"

    def find(self, key: str) -> int | None:
        """Return the number of the call that has a key (``Entry.key``)."""
        return self._calls.get(_name(key))

    def put(self, number: int, before: Entry | None, after: Entry | None) -> None:
        """A record is committed: it has a key, had one, or none; or (None) it is gone."""
        old = before.key if before is not None else None
        new = after.key if after is not None else None
        if old is not None and old != new and self.find(old) == number:
            del self._calls[_name(old)]
        if after is None:
            return
        self._newest_ms = max(self._newest_ms, _ms(after.record.call.accepted_at))
        if after.key is not None:
            self._put(number, _name(after.key), _ms(after.record.call.accepted_at))

    def load(self, sealed: Iterable[int]) -> None:
        """Read the keys of sealed pages."""
        pages = set(sealed)
        names = (name.removesuffix(".json") for name in self._files.list(FOLDER))
        for first in sorted(int(name) for name in names if name.isdecimal()):
            if self._layout.page_of(first) in pages:
                page = Page(self._files, self._path(self._layout.page_of(first)))
                for number, doc in page.all(_KEYS):
                    self._put(number, bytes.fromhex(doc["key"]), doc["at"])

    def seal(self, page: int, entries: Iterable[Entry]) -> None:
        """A page is about to be sealed: make its keys durable, if it has or had any."""
        docs = {
            entry.record.call.call_num: {
                "key": _name(entry.key).hex(),
                "at": _ms(entry.record.call.accepted_at),
            }
            for entry in entries
            if entry.key is not None
        }
        path = self._path(page)
        # It was sealed before, with calls that are gone: their keys may be used again.
        if docs or self._files.disk.exists(path):
            file = Page(self._files, path)
            file.drop(_KEYS, file.numbers(_KEYS))
            file.put(_KEYS, docs)
            file.save()
            # Before the page counts as sealed: from then on only this file tells its keys.
            self._files.settle()

    def expire(self, sealed: Iterable[int]) -> None:
        """Forget the keys of sealed pages that are old enough."""
        oldest_ms = min(self._newest_ms, time.time_ns() // 1_000_000) - KEY_KNOWN_MS
        for page in self._pages.keys() & set(sealed):
            if self._pages[page].newest_ms < oldest_ms:
                self._files.discard(self._path(page))
                self._forget(page)

    def remove(self, page: int) -> None:
        """A page is gone."""
        self._files.discard(self._path(page))
        self._pages.pop(page, None)

    def _put(self, number: int, name: bytes, at_ms: int) -> None:
        self._calls[name] = number
        keys = self._pages.setdefault(self._layout.page_of(number), _PageKeys())
        keys.names.add(name)
        keys.newest_ms = max(keys.newest_ms, at_ms)
        self._newest_ms = max(self._newest_ms, at_ms)

    def _forget(self, page: int) -> None:
        for name in self._pages.pop(page).names:
            number = self._calls.get(name)
            if number is not None and self._layout.page_of(number) == page:
                del self._calls[name]

    def _path(self, page: int) -> str:
        return f"{FOLDER}/{self._layout.first_of(page):010d}.json"


def _name(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _ms(text: str) -> int:
    return instant_ms(text) or 0
