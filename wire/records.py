"""What the DB node is asked: ``msgType`` and ``content``, answered ``ok`` or an error.

One frame a request: JSON if it begins with ``{``, else MessagePack; the answer is alike.
Each msgType has a class for its content and one for its answer's; ``REQUESTS`` lists them.
Every command may be sent again: repeating one changes nothing more.
"""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from wire import codec, errors, releases
from wire.models import (
    Call,
    CallRecord,
    Count,
    Function,
    Item,
    Key,
    Model,
    Name,
    Number,
    Runtime,
    Status,
)

MAX_LIST: Final = 1000


class Ping(Model, frozen=True, kw_only=True):
    """Ask whether the DB node is there."""


class Pong(Model, frozen=True, kw_only=True):
    """It is: which store it keeps, its release, the store's own epoch, its protocol version."""

    store: str
    version: str
    epoch: str
    protocol: Number = 1


class OpenApi(Model, frozen=True, kw_only=True):
    """An api starts: it gets an epoch that fences every older life of that name."""

    api: Name


class ApiOpened(Model, frozen=True, kw_only=True):
    """The epoch of this life of the api."""

    epoch: Number


class ReadCatalogue(Model, frozen=True, kw_only=True):
    """Read the changes after (epoch, after); all of it if the epoch is another."""

    epoch: str = ""
    after: Count = 0


class CatalogueRead(Model, frozen=True, kw_only=True):
    """Changes in order; a snapshot (every live and older revision) if ``after`` is 0."""

    epoch: str
    after: Count
    seq: Count
    items: tuple[Item, ...]


class RegisterRuntime(Model, frozen=True, kw_only=True):
    """Store a runtime under its name; ``revision``, ``id`` and seq are given here."""

    runtime: Runtime


class RegisterFunction(Model, frozen=True, kw_only=True):
    """Store a function under its name; its runtime must exist."""

    function: Function


class DeleteRuntime(Model, frozen=True, kw_only=True):
    """Remove a runtime; conflict while a function names it."""

    name: Name
    project: str = "default"


class DeleteFunction(Model, frozen=True, kw_only=True):
    """Remove a function; its revision numbers are never given again."""

    name: Name
    project: str = "default"


class Changed(Model, frozen=True, kw_only=True):
    """What a change came to. ``same`` means that all was so before: no new seq."""

    change: Literal["created", "changed", "same", "deleted"]
    item: Item


def function_of(changed: Changed) -> Function:
    """Return the function that a change is about."""
    if changed.item.function is None:
        raise errors.ProtocolError(f"the DB node answered no function: {changed!r}")
    return changed.item.function


class CallCounts(Model, frozen=True, kw_only=True):
    """Ask how many calls each function has had."""


class CallsCounted(Model, frozen=True, kw_only=True):
    """Calls by ``project/function``."""

    counts: dict[str, int]


class LeaseCalls(Model, frozen=True, kw_only=True):
    """Reserve call numbers; durable before it is answered."""

    api: Name
    epoch: Number
    count: Annotated[int, Meta(ge=1, le=1024)]


class CallsLeased(Model, frozen=True, kw_only=True):
    """The numbers ``first`` to ``first + count - 1`` are this api's."""

    first: Number
    count: Number


class ReturnCalls(Model, frozen=True, kw_only=True):
    """Give back the unused tail of the newest lease (of another one: ignored)."""

    api: Name
    epoch: Number
    first: Number
    count: Number


class CallsReturned(Model, frozen=True, kw_only=True):
    """Whether the numbers will be given again."""

    returned: bool


class WriteCalls(Model, frozen=True, kw_only=True):
    """Store records, each whole, each if its ``rev`` is newer than the stored one."""

    api: Name
    epoch: Number
    records: tuple[CallRecord, ...]


class CallsWritten(Model, frozen=True, kw_only=True):
    """(callNum, rev) of every record that is now stored at that rev or a newer one."""

    acks: tuple[tuple[int, int], ...]


class GetCall(Model, frozen=True, kw_only=True):
    """Read one record."""

    call_num: Number


class CallGot(Model, frozen=True, kw_only=True):
    """The record, with its logs."""

    record: CallRecord


class FindCall(Model, frozen=True, kw_only=True):
    """Read the record of the call that was accepted with an Idempotency-Key."""

    idempotency_key: Key
    project: str = "default"


class ListCalls(Model, frozen=True, kw_only=True):
    """Read public records in order of callNum; ``after`` is exclusive in that order."""

    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Meta(ge=1, le=MAX_LIST)] = 100
    after: Count | None = None
    status: Status | None = None
    function: str | None = None


class CallsListed(Model, frozen=True, kw_only=True):
    """At most ``limit`` records, fewer if they are big; ``more`` if there is a next page."""

    calls: tuple[Call, ...]
    more: bool


class UnfinishedCalls(Model, frozen=True, kw_only=True):
    """Read the records of an api that are not terminal, ascending, after a callNum."""

    api: Name
    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_LIST)] = MAX_LIST


class CallsUnfinished(Model, frozen=True, kw_only=True):
    """Records without logs; ask again after the last while there are ``more``.

    An answer may hold fewer than ``limit`` although there are more: its bytes are bounded.
    """

    records: tuple[CallRecord, ...]
    more: bool = False


#: msgType -> (class of its content, class of its answer's content).
REQUESTS: Final[dict[str, tuple[type[Model], type[Model]]]] = {
    "ping": (Ping, Pong),
    "openApi": (OpenApi, ApiOpened),
    "readCatalogue": (ReadCatalogue, CatalogueRead),
    "registerRuntime": (RegisterRuntime, Changed),
    "registerFunction": (RegisterFunction, Changed),
    "deleteRuntime": (DeleteRuntime, Changed),
    "deleteFunction": (DeleteFunction, Changed),
    "callCounts": (CallCounts, CallsCounted),
    "leaseCalls": (LeaseCalls, CallsLeased),
    "returnCalls": (ReturnCalls, CallsReturned),
    "writeCalls": (WriteCalls, CallsWritten),
    "getCall": (GetCall, CallGot),
    "findCall": (FindCall, CallGot),
    "listCalls": (ListCalls, CallsListed),
    "unfinishedCalls": (UnfinishedCalls, CallsUnfinished),
}
ProtocolVersion = Annotated[int, Meta(ge=0, le=255)]
_TYPE_OF: Final = {content: name for name, (content, _) in REQUESTS.items()}


class _Request(Model, frozen=True, kw_only=True):
    """The envelope; the content is decoded once its type is known."""

    msg_type: str
    content: msgspec.Raw = msgspec.Raw(b"{}")
    #: None from who asks by hand.
    protocol: ProtocolVersion | None = None


def _whole(name: str, content: type[Model]) -> Any:
    """Return the class of a request with its content: read in one go, a large one once."""
    return msgspec.defstruct(
        f"{content.__name__}Request",
        [("content", content), ("protocol", ProtocolVersion | None, None)],
        bases=(Model,), kw_only=True, frozen=True, tag_field="msgType", tag=name,
    )  # fmt: skip


_WHOLE: Final = msgspec.json.Decoder(
    functools.reduce(operator.or_, (_whole(name, kinds[0]) for name, kinds in REQUESTS.items()))
)


class _Reply(Model, frozen=True, kw_only=True):
    """The answer's envelope: ``content`` if ok, else ``error``."""

    ok: bool
    content: msgspec.Raw = msgspec.Raw(b"{}")
    error: dict[str, str] = {}


def encode_request(content: Model) -> bytes:
    """Return the JSON frame that asks this."""
    if isinstance(content, WriteCalls):
        content = replace(content, records=tuple(map(_without_params, content.records)))
    name = _TYPE_OF[type(content)]
    return msgspec.json.encode(
        {"msgType": name, "content": content, "protocol": releases.PROTOCOL}
    )


def decode_request(frame: bytes) -> Model:
    """Return the content of a request; its class says what is asked.

    Raises:
        BadRequest: not a request, an unknown msgType, or content that is not of its type.
        WrongVersion: it is one of another protocol version.
    """
    try:
        data = as_json(frame)
        try:
            content: Model = _current(_WHOLE.decode(data))
        except ValueError:
            # Why not is known by steps; so is a request by hand.
            content = _by_steps(data)
    except (ValueError, RecursionError) as error:
        raise errors.BadRequest(f"not a request: {error}") from error
    if isinstance(content, WriteCalls):
        content = replace(content, records=tuple(map(_kept_params, content.records)))
    return content


def _current(request: Any) -> Any:
    """Return the content of a request, unless it is one of another protocol version."""
    if request.protocol is not None and request.protocol != releases.PROTOCOL:
        raise releases.refusal("an api", request.protocol, "its DB node")
    return request.content


def _by_steps(data: bytes) -> Model:
    """Return the content of a request that may lack some, or say what is wrong with it.

    Raises:
        BadRequest: an unknown msgType.
        WrongVersion: it is one of another protocol version.
        ValueError: it is no request.
    """
    request = msgspec.json.decode(data, type=_Request)
    raw = _current(request)
    kinds = REQUESTS.get(request.msg_type)
    if kinds is None:
        raise errors.BadRequest(
            f"unknown msgType {request.msg_type[:80]!r}",
            hint="docs/protocol.md lists them: " + ", ".join(REQUESTS),
        )
    content: Model = msgspec.json.decode(raw, type=kinds[0])
    return content


def _without_params(record: CallRecord) -> CallRecord:
    """JSON has no way to write a ``Raw`` of no bytes: say that the stored params stay."""
    if record.call.params:
        return record
    call = replace(record.call, params=msgspec.Raw(b"null"))
    return replace(record, call=call, params_kept=True)


def _kept_params(record: CallRecord) -> CallRecord:
    if not record.params_kept:
        return record
    call = replace(record.call, params=msgspec.Raw(b""))
    return replace(record, call=call, params_kept=False)


def encode_reply(content: Model | errors.SkepError) -> bytes:
    """Return the JSON frame that answers: the content, or the error."""
    if isinstance(content, errors.SkepError):
        return msgspec.json.encode({"ok": False, "error": content.as_dict()})
    return msgspec.json.encode({"ok": True, "content": content})


def decode_reply(request: Model, frame: bytes) -> Model:
    """Return what the request was answered.

    Raises:
        SkepError: the error that the DB node answered.
        ProtocolError: the frame is no answer to it.
    """
    try:
        reply = msgspec.json.decode(frame, type=_Reply)
        if not reply.ok:
            raise errors.from_dict(reply.error)
        return msgspec.json.decode(reply.content, type=REQUESTS[_TYPE_OF[type(request)]][1])
    except (ValueError, RecursionError) as error:
        raise errors.ProtocolError(f"bad answer of the DB node: {error}") from error


def is_json(frame: bytes) -> bool:
    """Return whether a frame is JSON by its first byte (else it is MessagePack)."""
    return frame[:1] == b"{"


def as_json(frame: bytes) -> bytes:
    """Return the frame as JSON; raise ``ValueError`` if it is neither."""
    if is_json(frame):
        return frame
    try:
        return msgspec.json.encode(codec.unpack(frame))
    except (TypeError, OverflowError) as error:
        # Keys or extension types that JSON has no word for.
        raise ValueError(str(error)) from error


def alike(frame: bytes, reply: bytes) -> bytes:
    """Return a JSON reply in the encoding of the request it answers."""
    if is_json(frame):
        return reply
    plain: Any = msgspec.json.decode(reply)
    return codec.pack(plain)
