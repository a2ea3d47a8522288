"""What a batch of records comes to in the tables of the SQL store: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dbnode import rows
from dbnode.calls import Entry
from dbnode.rows import Doc, Piece, Ref

Row = Mapping[str, Any]
_NO_PACK: Final = ""


class Pieces:
    """The big pieces of one record, by digest: what is the same is kept once."""

    def __init__(self) -> None:
        self.new: dict[str, bytes] = {}

    def put(self, data: Piece) -> Ref:
        """Note a piece and return where it is."""
        digest = rows.digest(data)
        self.new[digest] = bytes(data)
        return _NO_PACK, 0, len(data), digest


class Staging:
    """The rows that are written, and the pieces (callNum, digest) that go."""

    def __init__(self) -> None:
        self.calls: list[Row] = []
        self.pieces: list[Row] = []
        self.stale: list[tuple[int, str]] = []
        #: How many calls more (or fewer) each function has.
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Staging of {len(self.calls)} calls>"

    def put(self, number: int, entry: Entry, before: Doc | None) -> None:
        """Add a record that is new, or takes the place of the one before."""
        pieces = Pieces()
        doc = rows.to_doc(entry, before, pieces)
        self.calls.append(_row(number, entry, doc))
        new = pieces.new.items()
        self.pieces += [{"num": number, "digest": name, "data": data} for name, data in new]
        self.stale += [(number, name) for name in _digests(before) - _digests(doc)]
        self.counts[entry.function_key] += 1
        if before is not None:
            self.counts[rows.brief(before).function_key] -= 1

    def drop(self, before: Doc) -> None:
        """Count a record that goes no more."""
        self.counts[rows.brief(before).function_key] -= 1

    def counted(self) -> list[Row]:
        """Return what is added to the number of calls of each function."""
        changed = {name: count for name, count in self.counts.items() if count}
        return [{"name": name, "calls": count} for name, count in changed.items()]


def _row(number: int, entry: Entry, doc: Doc) -> Row:
    record, call = entry.record, entry.record.call
    return {
        "num": number,
        "rev": record.rev,
        "epoch": record.epoch,
        "api": record.api,
        "project": call.project,
        "function": call.func_name,
        "status": str(call.status),
        "idempotency": entry.key,
        "doc": msgspec.json.encode(doc).decode(),
    }


def _digests(doc: Doc | None) -> set[str]:
    return {ref[3] for ref in rows.refs(doc).values()}
