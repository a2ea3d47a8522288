"""A call's record as a document of the store, and back: pure.

What is big (params, result, logs) goes into *packs*, one for all the big pieces of a
partition in one commit: the document names pack, offset, length and digest. So a record is
rewritten often and its bytes once, and one fdatasync serves a whole batch.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from dbnode.calls import CONTENT, Entry
from wire.models import Call, CallRecord, Logs

#: Pieces up to this many bytes stay in the document.
INLINE_BYTES: Final = 1024

#: Digests of this length are BLAKE2b's, as stores once had them.
_BLAKE_CHARS: Final = 32

#: pack, offset, length, digest
Ref = tuple[str, int, int, str]
Doc = dict[str, Any]
Fetch = Callable[[Ref], bytes]
#: A piece of a record; params lie where they came in, for a copy costs as much as a write.
Piece = bytes | memoryview

_NO_PARAMS: Final = msgspec.Raw(b"")


class Packing(Protocol):
    """Where the big pieces of a record go."""

    def put(self, data: Piece) -> Ref:
        """Take a piece and return where it is."""


class Pack:
    """The big pieces of one commit to one partition, one after another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pieces: list[Piece] = []
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def bytes(self) -> builtins.bytes:
        """Return all that was put into it."""
        return b"".join(self._pieces)

    def put(self, data: Piece) -> Ref:
        """Append a piece and return where it is."""
        ref = (self.name, self._size, len(data), digest(data))
        self._pieces.append(data)
        self._size += len(data)
        return ref


def digest(data: Piece) -> str:
    """Return what tells a piece from every other (and from a damaged one).

    SHA-256, for which processors have instructions: of a large call it is the most work.
    """
    return hashlib.sha256(data).hexdigest()


def is_same(data: Piece, told: str) -> bool:
    """Return whether a piece is the one with this digest, also that of an older store."""
    if len(told) == _BLAKE_CHARS:
        return hashlib.blake2b(data, digest_size=_BLAKE_CHARS // 2).hexdigest() == told
    return digest(data) == told


def to_doc(entry: Entry, before: Doc | None, pack: Packing) -> Doc:
    """Return the document of an entry; its new big pieces go into the pack."""
    record = entry.record
    pieces = _pieces(record)
    known = refs(before)
    content = {name: known[name] for name in entry.held}
    for name, data in pieces.items():
        if name not in entry.held and len(data) > INLINE_BYTES:
            content[name] = _placed(data, known.get(name), pack)
    doc = _plain(record)
    _inline(doc, record, pieces, content)
    if content:
        doc["content"] = {name: list(ref) for name, ref in content.items()}
    return doc


def refs(doc: Doc | None) -> dict[str, Ref]:
    """Return where the big pieces of a document are."""
    content: Mapping[str, list[Any]] = (doc or {}).get("content", {})
    return {name: (ref[0], ref[1], ref[2], ref[3]) for name, ref in content.items()}


def brief(doc: Doc) -> Entry:
    """Return the entry of a document, its big pieces left where they are."""
    return Entry(_record(doc, {}), frozenset(refs(doc)))


def whole(doc: Doc, fetch: Fetch) -> CallRecord:
    """Return the record of a document, its big pieces fetched."""
    return _record(doc, {name: fetch(ref) for name, ref in refs(doc).items()})


def _pieces(record: CallRecord) -> dict[str, Piece]:
    call = record.call
    pieces: dict[str, Piece] = {
        "params": memoryview(call.params),
        "result": call.result.encode(),
    }
    if record.logs is not None:
        pieces["logs"] = msgspec.json.encode(record.logs)
    return pieces


def _placed(data: Piece, known: Ref | None, pack: Packing) -> Ref:
    """Return where a piece is: where it was before, if it is the same."""
    if known is not None and known[2] == len(data) and is_same(data, known[3]):
        return known
    return pack.put(data)


def _plain(record: CallRecord) -> Doc:
    """Return the small fields, without those that say nothing."""
    call = replace(record.call, params=_NO_PARAMS, result="")
    doc = _told(replace(record, call=call, logs=None), _RECORD_DEFAULTS)
    doc["call"] = _told(call, _CALL_DEFAULTS)
    return doc


def _told(model: Call | CallRecord, defaults: Doc) -> Doc:
    plain: Doc = {}
    for name, field in _FIELDS[type(model)]:
        value = getattr(model, name)
        if value != defaults[name]:
            plain[field] = msgspec.to_builtins(value)
    return plain


def _inline(doc: Doc, record: CallRecord, pieces: Doc, content: Mapping[str, Ref]) -> None:
    if "params" not in content:
        # As text: parsed and written again, numbers and double keys would not be the same.
        doc["call"]["params"] = str(pieces["params"], "utf-8")
    if "result" not in content and record.call.result:
        doc["call"]["result"] = record.call.result
    if "logs" not in content and record.logs is not None:
        doc["logs"] = msgspec.to_builtins(record.logs)


def _record(doc: Doc, big: Mapping[str, bytes]) -> CallRecord:
    plain = {name: value for name, value in doc.items() if name not in ("content", "call")}
    small = dict(doc["call"])
    params = small.pop("params", "").encode()
    call = msgspec.convert(small, Call)
    call = replace(
        call,
        params=msgspec.Raw(big.get("params", params)),
        result=big["result"].decode() if "result" in big else call.result,
    )
    record = msgspec.convert({**plain, "call": _ANY_CALL}, CallRecord)
    logs = msgspec.json.decode(big["logs"], type=Logs) if "logs" in big else record.logs
    return replace(record, call=call, logs=logs)


#: What ``params`` and others are told by apart from the plain fields.
_APART: Final = {"call", *CONTENT}
_ANY_CALL: Final = {
    "funcName": "x",
    "callNum": 1,
    "id": "",
    "runtimeName": "",
    "revision": 1,
    "acceptedAt": "",
}


def _fields(model: type[Call | CallRecord]) -> list[tuple[str, str]]:
    infos = msgspec.structs.fields(model)
    return [(each.name, each.encode_name) for each in infos if each.name not in _APART]


def _defaults(model: type[Call | CallRecord]) -> Doc:
    infos = msgspec.structs.fields(model)
    return {each.name: each.default for each in infos}


_FIELDS: Final = {model: _fields(model) for model in (Call, CallRecord)}
_CALL_DEFAULTS: Final = _defaults(Call) | {"status": None}
_RECORD_DEFAULTS: Final = _defaults(CallRecord)
