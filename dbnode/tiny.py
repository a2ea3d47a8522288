"""TinyDB's one door: a page is one TinyDB file, changed in memory and written whole.

TinyDB writes at each change; here a change is staged, ``save`` writes the file in one step,
and ``keep`` or ``undo`` says whether that is the state now. A document is never changed in
place, so its encoded bytes are kept with it and a save encodes only what is new.
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
        self._encoded: dict[str, dict[str, tuple[Doc, bytes]]] = {}
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
        self._stage(table, {**self._docs(table), **{str(n): doc for n, doc in docs.items()}})

    def drop(self, table: str, numbers: Iterable[int]) -> None:
        """Stage that documents go; those that are not there are fine."""
        known = self._docs(table)
        gone = {str(number) for number in numbers} & known.keys()
        if gone:
            self._stage(table, {n: doc for n, doc in known.items() if n not in gone})

    def save(self) -> None:
        """Write the staged state; durable once the files are settled."""
        data = self._encode()
        self._is_saved = True
        self._files.write(self.path, data)

    def keep(self) -> None:
        """Take the staged state, which is durable, for the state."""
        self._staged.kept = self._staged.tables
        self._is_saved = self.is_stale = False

    def undo(self) -> None:
        """Forget what was staged."""
        self._staged.tables = self._staged.kept
        self.is_stale = self.is_stale or self._is_saved
        self._is_saved = False

    def _docs(self, table: str) -> dict[str, Doc]:
        return self._staged.tables.get(table, {})

    def _stage(self, table: str, docs: dict[str, Doc]) -> None:
        self._db.storage.write({**self._staged.tables, table: docs})

    def _table(self, name: str) -> Table:
        return self._db.table(name)

    def _encode(self) -> bytes:
        """Return the file: TinyDB's JSON, one document a line."""
        # All pieces are joined once: a copy of a full page costs as much as its write.
        pieces: list[bytes] = []
        for name, docs in self._staged.tables.items():
            known = self._encoded.setdefault(name, {})
            rows = _rows(docs, known) or [b""]
            rows[0] = b'%s"%s": {\n%s' % (b"" if pieces else b"{", name.encode(), rows[0])
            rows[-1] += b"\n}"
            pieces += rows
            if len(known) > len(docs):
                self._encoded[name] = {number: known[number] for number in docs}
        pieces = pieces or [b"{"]
        pieces[-1] += b"}\n"
        data = b",\n".join(pieces)
        return msgspec.json.format(data, indent=2) + b"\n" if self._indented else data


def _rows(docs: dict[str, Doc], known: dict[str, tuple[Doc, bytes]]) -> list[bytes]:
    """Return the encoded documents; of those that are ``known`` nothing is encoded again."""
    rows = []
    for number, doc in docs.items():
        row = known.get(number)
        if row is None or row[0] is not doc:
            encoded = b'"%s": %s' % (number.encode(), msgspec.json.encode(doc))
            row = known[number] = (doc, encoded)
        rows.append(row[1])
    return rows


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
