"""What a miniworker and the agent in its sandbox say to each other: frames in and out.

A frame is two big-endian lengths, a JSON object, a body. All that comes from the agent is
hostile (the function may have taken it over): whatever is not exactly a message that may
come raises ``ProtocolError`` here.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from wire.errors import ProtocolError
from wire.models import Count

PROTOCOL: Final = 1
HEADER_BYTES: Final = 64 << 10
#: The mark: a sealed memfd of this size; its first 8 bytes are the last attempt begun.
MARK_BYTES: Final = 4096
MESSAGE_CHARS: Final = 4096
#: A piece of a frame that is smaller is put together with the next: whoever sends byte by byte
#: shall not fill the memory with what belongs to each object.
PIECE_BYTES: Final = 4096
_LENGTHS: Final = struct.Struct(">II")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what a call prints is kept: the result, and head and tail of a stream."""

    result: int = 6 << 20
    head: int = 64 << 10
    tail: int = 64 << 10

    @property
    def body(self) -> int:
        """Return the largest body that an agent may send."""
        return self.result + 2 * (self.head + self.tail)


class Frame(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Base of all messages on this link, tagged by ``type``."""


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """The agent lives; ``mark`` says that it can take a descriptor.

    ``ahead``: a handler's calls may come before the one that runs has ended. It begins none
    that is revoked on its mark, and leaves what it has not begun to its next process.
    """

    protocol: Count
    pid: Count
    mark: bool
    ahead: bool = False


class Ready(Frame, frozen=True, kw_only=True, tag="ready"):
    """The function's code is in place and calls may come; also after a ``ready: false``."""


class Broken(Frame, frozen=True, kw_only=True, tag="broken"):
    """The agent could not get ready; the body is what was printed on the way."""

    fault: Literal["function", "node"]
    code: Literal["entry_not_found", "command_not_found", "no_sandbox", "no_space"]
    message: str


class Result(Frame, frozen=True, kw_only=True, tag="result"):
    """An attempt ended by itself; the body is result, stdout, stderr, cut by ``sizes``."""

    attempt: Count
    status: Literal["DONE", "FAILED", "OOM"]
    code: Literal[
        "",
        "raised",
        "exit_code",
        "signal",
        "result_too_large",
        "command_not_found",
        "entry_not_found",
        "http_status",
        "no_answer",
        "oom",
    ] = ""
    message: str = ""
    sizes: tuple[Count, Count, Count] = (0, 0, 0)
    omitted: Count = 0
    result_type: Literal["text", "json"] = "text"
    #: Whether the next call may come, or a ``ready`` of its own is to be awaited.
    ready: bool = True
    peak_memory: Annotated[int, Meta(ge=0, le=1 << 50)] | None = None
    #: How long the function itself ran: a hint, for it is the sandbox that says so.
    ran_us: Annotated[int, Meta(ge=0, le=1 << 50)] | None = None


class Exit(Frame, frozen=True, kw_only=True, tag="exit"):
    """An attempt was killed, and nothing of it runs any more."""

    attempt: Count
    began: bool
    sizes: tuple[Count, Count] = (0, 0)
    omitted: Count = 0
    #: As of a result.
    ready: bool = True


class Init(Frame, frozen=True, kw_only=True, tag="init"):
    """What the sandbox is for; the mark travels with it where the agent takes one."""

    path: str
    bundle: str
    run: str
    entry: str
    isolation: str
    env: dict[str, str]
    limits: Limits


class Call(Frame, frozen=True, kw_only=True, tag="call"):
    """Run an attempt; the body is the params."""

    call: Count
    attempt: Count
    timeout_ms: Count
    env: dict[str, str]


class Kill(Frame, frozen=True, kw_only=True, tag="kill"):
    """End this attempt with all its processes, and no other."""

    attempt: Count


FromAgent = Hello | Ready | Broken | Result | Exit
ToAgent = Init | Call | Kill
_DECODER: Final[msgspec.json.Decoder[FromAgent]] = msgspec.json.Decoder(FromAgent)


def encode_head(message: ToAgent, body: bytes = b"") -> bytes:
    """Return the bytes of one frame but its body, which follows them."""
    header = msgspec.json.encode(message)
    return _LENGTHS.pack(len(header), len(body)) + header


class FrameReader:
    """Bytes in, whole frames out; holds at most one frame of the largest allowed size."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.body
        #: What has come of the next part, and how many bytes it takes to go on: the lengths,
        #: the header with them, or the body of the message that was there.
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _LENGTHS.size
        self._message: FromAgent | None = None

    def __repr__(self) -> str:
        return f"<FrameReader of bodies up to {self._most}, {self._held} bytes held>"

    def feed(self, data: bytes) -> list[tuple[FromAgent, bytes]]:
        """Return the frames that these bytes complete.

        Raises:
            ProtocolError: they are no frames, or frames that are too large.
        """
        self._keep(data)
        if self._held < self._wanted:
            return []
        # A large body is copied here, once, and only when all of it is there.
        data = b"".join(self._pieces)
        frames, at = [], 0
        while len(data) - at >= self._wanted:
            if self._message is None:
                at = self._begin(data, at)
            else:
                end = at + self._wanted
                frames.append((self._message, data[at:end]))
                self._message, self._wanted, at = None, _LENGTHS.size, end
        self._pieces = [data[at:]]
        self._held = len(data) - at
        return frames

    def _keep(self, data: bytes) -> None:
        self._held += len(data)
        if self._pieces and len(self._pieces[-1]) < PIECE_BYTES:
            self._pieces[-1] += data
        else:
            self._pieces.append(data)

    def _begin(self, data: bytes, at: int) -> int:
        """Read what stands before a body, if it is all there; return where that ends."""
        header, body = _lengths(data, at)
        if header > HEADER_BYTES or body > self._most:
            raise ProtocolError(f"the agent announced a frame of {header} + {body} bytes")
        start = at + _LENGTHS.size
        if len(data) < start + header:
            self._wanted = _LENGTHS.size + header
            return at
        self._message, self._wanted = _decode(data[start : start + header]), body
        return start + header


def _lengths(data: bytes, at: int) -> tuple[int, int]:
    header, body = _LENGTHS.unpack_from(data, at)
    return header, body


def _decode(header: bytes) -> FromAgent:
    try:
        return _DECODER.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the agent sent a bad frame: {error}") from error


def cut(body: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    """Return the slices of a body; raise ``ProtocolError`` if the sizes do not fit it."""
    if sum(sizes) != len(body):
        raise ProtocolError(f"the agent sent {len(body)} bytes and announced {sum(sizes)}")
    slices, start = [], 0
    for size in sizes:
        slices.append(body[start : start + size])
        start += size
    return slices
