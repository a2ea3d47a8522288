"""Messages to frames and back; the only module that knows msgpack.

A message travels as three frames, ``[head, header, payload]``:

* head: three bytes, the magic 0xA5, the protocol version, the kind;
* header: the message's fields as one MessagePack array, in the order of its class;
* payload: bytes that nobody on the way decodes (params, results, logs, package chunks).

Whatever does not fit raises one ``ProtocolError`` here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgpack
import msgspec

from wire.errors import ProtocolError, WrongVersion

MAGIC: Final = 0xA5
#: Peers of another version are refused by name; a release may add kinds, never change one.
VERSION: Final = 1
FRAMES: Final = 3
#: The first frame of a message, by its kind.
HEADS: Final = tuple(bytes((MAGIC, VERSION, kind)) for kind in range(256))


class Message(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Base of every message: its ``KIND`` is unique on its link, its fields are the header.

    More fields than these are ignored: they are those of a newer release.
    """

    KIND: ClassVar[int]
    #: Whether every protocol version has it, field for field: peers that share no version
    #: can say this much to each other.
    TIMELESS: ClassVar[bool] = False


M = TypeVar("M", bound=Message)
#: What nobody on the way decodes; a large one of who only passes it on lies where it came.
Payload = bytes | memoryview
P = TypeVar("P", bytes, Payload)
Frames = tuple[bytes, bytes, bytes]


class Dialect(Generic[M]):
    """The messages that one side of a link may send, by kind."""

    def __init__(self, name: str, *kinds: type[M]) -> None:
        self.name = name
        self.kinds: dict[int, type[M]] = {cls.KIND: cls for cls in kinds}
        self._decoders = {cls: msgspec.msgpack.Decoder(cls) for cls in kinds}
        if len(self.kinds) != len(kinds):
            raise ValueError(f"two messages of {name} share a kind")

    def __repr__(self) -> str:
        return f"<Dialect {self.name}: {len(self.kinds)} messages>"

    def decode(self, frames: Sequence[P]) -> tuple[M, P]:
        """Return the message and its payload.

        Raises:
            ProtocolError: the frames are not a message that this side may send.
        """
        if len(frames) != FRAMES:
            raise ProtocolError(f"{len(frames)} frames on {self.name}, {FRAMES} expected")
        head, header, payload = frames
        return self._body(self._kind(head), header), payload

    def _kind(self, head: Payload) -> type[M]:
        if len(head) != 3 or head[0] != MAGIC:
            raise ProtocolError(f"no skep message on {self.name}")
        kind = self.kinds.get(head[2])
        if head[1] != VERSION and not (kind is not None and kind.TIMELESS):
            raise WrongVersion(
                f"protocol version {head[1]} on {self.name}, {VERSION} spoken here",
                hint="run releases of one protocol version together",
            )
        if kind is None:
            raise ProtocolError(f"unknown kind {head[2]} on {self.name}")
        return kind

    def _body(self, kind: type[M], header: Payload) -> M:
        try:
            return self._decoders[kind].decode(header)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"bad {kind.__name__} on {self.name}: {error}") from error


def encode(message: Message, payload: P = b"") -> tuple[bytes, bytes, P]:
    """Return the three frames of a message."""
    return (HEADS[message.KIND], _encode(message), payload)


#: The same bytes as ``pack`` makes, without making plain data of a message first.
_encode: Final = msgspec.msgpack.Encoder().encode


def pack(value: Any) -> bytes:
    """Encode plain data or models as MessagePack."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return packed


def unpack(data: Payload) -> Any:
    """Decode MessagePack to plain data.

    Raises:
        ValueError: it is not MessagePack, or more than one value. (msgpack's own errors
        are all ValueErrors, but for the stack overflow of hostile nesting.)
    """
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (msgpack.StackError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
