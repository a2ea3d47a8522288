"""TinyDB's one door: a page is one TinyDB file, changed in memory and written whole.

TinyDB writes at each change; here a change is staged, ``save`` writes the file in one step,
and ``keep`` or ``undo`` says whether that is the state now. A document is never changed in
place, so its line of the file is kept beside it, and only what is new is encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from dbnode.files import Files
from wire.errors import StoreUnavailable

Doc = dict[str, Any]
Tables = dict[str, dict[str, Doc]]
#: The lines of a file: by table and document, in the order of the documents.
Lines = dict[str, dict[str, bytes]]


class Staged(Storage):
    """What TinyDB reads and writes: tables in memory, beside those that were kept."""

    def __init__(self, tables: Tables) -> None:
        self.kept = tables
        self.tables = tables

    def read(self) -> Tables:
        """Return the staged tables; TinyDB puts its changed table into this very dict."""
        return dict(self.tables)

    def write(self, data: Tables) -> None:
        """Stage what TinyDB changed."""
        self.tables = data


class Page:
    """One TinyDB file."""

    def __init__(self, files: Files, path: str, *, indented: bool = False) -> None:
        self.path = path
        #: Whether the file may hold what was undone: it has to be saved again.
        self.is_stale = False
        self._files = files
        self._indented = indented
        self._is_saved = False
        #: Those of tables that were changed, or saved; as staged, and as kept.
        self._lines: Lines = {}
        self._kept_lines: Lines = {}
        self._staged = Staged(_load(files, path))
        staged = self._staged
        self._db = TinyDB(storage=lambda: staged)

    def __repr__(self) -> str:
        return f"<Page {self.path}>"

    def get(self, table: str, number: int) -> Doc | None:
        """Return a document; None if there is none."""
        found = self._table(table).get(doc_id=number)
        return None if found is None else dict(found)

    def numbers(self, table: str) -> list[int]:
        """Return the numbers of all documents, ascending."""
        return sorted(map(int, self._docs(table)))

    def all(self, table: str) -> Iterator[tuple[int, Doc]]:
        """Yield all documents, ascending."""
        for number in self.numbers(table):
            doc = self.get(table, number)
            if doc is not None:
                yield number, doc

    def put(self, table: str, docs: Mapping[int, Doc]) -> None:
        """Stage documents, new ones or in the place of others."""
        # Not by TinyDB's insert, which makes the table anew key by key, and twice.
        new = {str(number): doc for number, doc in docs.items()}
        lines = {**self._lines_of(table), **_encoded(new)}
        self._stage(table, {**self._docs(table), **new}, lines)

    def drop(self, table: str, numbers: Iterable[int]) -> None:
        """Stage that documents go; those that are not there are fine."""
        known = self._docs(table)
        gone = {str(number) for number in numbers} & known.keys()
        if gone:
            left = {number: doc for number, doc in known.items() if number not in gone}
            lines = self._lines_of(table)
            self._stage(table, left, {number: lines[number] for number in left})

    def save(self) -> None:
        """Write the staged state; durable once the files are settled."""
        data = self._encode()
        self._is_saved = True
        self._files.write(self.path, data)

    def keep(self) -> None:
        """Take the staged state, which is durable, for the state."""
        self._staged.kept, self._kept_lines = self._staged.tables, self._lines
        self._is_saved = self.is_stale = False

    def undo(self) -> None:
        """Forget what was staged."""
        self._staged.tables, self._lines = self._staged.kept, self._kept_lines
        self.is_stale = self.is_stale or self._is_saved
        self._is_saved = False

    def _docs(self, table: str) -> dict[str, Doc]:
        return self._staged.tables.get(table, {})

    def _lines_of(self, table: str) -> dict[str, bytes]:
        if table not in self._lines:
            # Nothing of it is staged: it is as it was read.
            self._lines[table] = self._kept_lines[table] = _encoded(self._docs(table))
        return self._lines[table]

    def _stage(self, table: str, docs: dict[str, Doc], lines: dict[str, bytes]) -> None:
        self._db.storage.write({**self._staged.tables, table: docs})
        self._lines = {**self._lines, table: lines}

    def _table(self, name: str) -> Table:
        return self._db.table(name)

    def _encode(self) -> bytes:
        """Return the file: TinyDB's JSON, one document a line."""
        # All lines are joined once: a copy of a full page costs as much as its write.
        pieces: list[bytes] = []
        for name in self._staged.tables:
            lines = list(self._lines_of(name).values()) or [b""]
            lines[0] = b'%s"%s": {\n%s' % (b"" if pieces else b"{", name.encode(), lines[0])
            lines[-1] += b"\n}"
            pieces += lines
        pieces = pieces or [b"{"]
        pieces[-1] += b"}\n"
        data = b",\n".join(pieces)
        return msgspec.json.format(data, indent=2) + b"\n" if self._indented else data


def _encoded(docs: dict[str, Doc]) -> dict[str, bytes]:
    return {
        number: b'"%s": %s' % (number.encode(), msgspec.json.encode(doc))
        for number, doc in docs.items()
    }


def _load(files: Files, path: str) -> Tables:
    data = files.read(path)
    if data is None:
        return {}
    try:
        return msgspec.json.decode(data, type=Tables)
    except (ValueError, RecursionError) as error:
        raise StoreUnavailable(
            f"the store's file {path} is damaged: {error}",
            hint="put back a copy of the store's folder, or start with --redeploy fresh, "
            "which forgets all runtimes, functions and calls",
        ) from error
