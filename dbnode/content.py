"""The big pieces of calls on disk: one pack for each page and commit, never rewritten.

A pack is durable before the page that names it is written. What a crash or an undone commit
left without a name is swept when its page is read at a start.
"""

from __future__ import annotations

import secrets
from collections.abc import Container

from dbnode import rows
from dbnode.files import TEMPORARY, Files
from dbnode.rows import Pack, Ref
from dbnode.seals import Layout
from wire.errors import StoreUnavailable


class Content:
    """Packs, in one folder for each page of calls."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout

    def new_pack(self, call_num: int) -> Pack:
        """Return an empty pack, named after its first call.

        Never a name again: what an undone commit left must not be taken for this one's.
        """
        return Pack(f"{call_num}-{secrets.token_hex(6)}")

    def write(self, page: int, pack: Pack) -> None:
        """Write a pack unless it is empty; durable once settled."""
        if pack:
            self._files.make_folder(self._folder(page))
            self._files.write(self._path(page, pack.name), pack.bytes)

    def fetch(self, page: int, ref: Ref) -> bytes:
        """Return a piece.

        Raises:
            StoreUnavailable: it is not there, or not what was written.
        """
        pack, offset, length, digest = ref
        path = self._path(page, pack)
        hint = "put back a copy of the store's folder"
        try:
            data = self._files.disk.read(path, offset, length)
        except OSError as error:
            what = f"the store's file {path} cannot be read: {error}"
            raise StoreUnavailable(what, hint=hint) from error
        if not rows.is_same(data, digest):
            what = f"the store's file {path} is damaged at byte {offset}"
            raise StoreUnavailable(what, hint=hint)
        return data

    def discard(self, page: int, pack: str) -> None:
        """Remove a pack that nothing names; if that fails, a start will."""
        path = self._path(page, pack)
        try:
            self._files.discard(path)
            self._files.discard(path + TEMPORARY)
        except OSError:
            return

    def sweep(self, page: int, named: Container[str]) -> None:
        """Remove the packs of a page that it does not name."""
        for pack in self._files.list(self._folder(page)):
            if pack not in named:
                self.discard(page, pack)

    def remove(self, page: int) -> None:
        """Remove all packs of a page that is gone, and their folder."""
        for pack in self._files.list(self._folder(page)):
            self.discard(page, pack)
        if self._files.disk.exists(self._folder(page)):
            self._files.disk.remove_folder(self._folder(page))

    def _folder(self, page: int) -> str:
        return f"calls/content/{self._layout.first_of(page):010d}"

    def _path(self, page: int, pack: str) -> str:
        return f"{self._folder(page)}/{pack}"
