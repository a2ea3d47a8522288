"""The hot route without aiohttp: ``POST /invokeFunction`` as programs send it, whole and plain.

aiohttp costs several times what all else does that the api has to do for a call. So a request
that leaves no question open is answered here: of exactly the form below, let in, its body
good. Whatever else comes goes to aiohttp on the same connection, byte for byte: so there is
one place that knows HTTP, and one that says who may ask what, and how.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from api.bodies import InvokeFunction
from api.front import Front
from api.guard import Guard
from api.live import Live
from api.queries import MAX_WAIT_S, WaitQuery, wait_s
from api.reading import check_depth, read
from wire.errors import BadRequest
from wire.models import Call, to_json
from wire.process import spawn
from wire.traces import Trace, read_trace

ROUTE: Final = "/invokeFunction"
BEGINNING: Final = b"POST /invokeFunction"
END: Final = b"\r\n\r\n"
#: Of head and body. What is larger is aiohttp's: it costs little beside so many bytes.
MAX_BYTES: Final = 64 << 10

#: Below what aiohttp takes; it judges what is longer.
MAX_HEAD_BYTES: Final = 4096

_FIELDS: Final = rb"((?:[A-Za-z0-9-]+: ?[\x21-\x7e][\x20-\x7e]*\r\n)+)\r\n"
_HOT: Final = re.compile(
    rb"POST /invokeFunction(?:\?wait=([0-9]{1,3}(?:\.[0-9]{1,3})?))? HTTP/1\.1\r\n" + _FIELDS
)
_OTHER: Final = re.compile(rb"(?!CONNECT )[A-Z]+ [\x21-\x7e]+ HTTP/1\.1\r\n" + _FIELDS)
#: Headers by which a body may be of another length than is announced, or another protocol.
_UNFRAMED: Final = frozenset((b"expect", b"trailer", b"transfer-encoding", b"upgrade"))
#: Headers that only aiohttp, or the guard, knows how to take.
_QUESTIONS: Final = _UNFRAMED | {
    *(b"content-encoding", b"idempotency-key", b"origin", b"sec-fetch-site"),
}
#: Headers that every answer has.
_EVERYWHERE: Final = ("Content-Type", "Content-Length")

#: Takes the bytes of an answer.
Reply = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a hot request, and what it says; those of one client are mostly alike."""

    raw: bytes
    #: Of the body, in bytes.
    length: int
    wait_s: float
    trace: Trace


def is_whole(data: bytes) -> bool:
    """Return whether this is one request from its first byte to its last, beyond doubt."""
    raw, end, body = data.partition(END)
    match = _OTHER.fullmatch(raw + end)
    said = _said(match[1]) if match else None
    if said is None or said.keys() & _UNFRAMED:
        return False
    # As text: what has thousands of digits makes no number, and is for aiohttp to refuse.
    length = said.get(b"content-length", b"0")
    return length == b"%d" % len(body)


def _said(fields: bytes) -> dict[bytes, bytes] | None:
    """Return what the headers say by lower-case name; None if one is there twice."""
    pairs = [line.partition(b":") for line in fields.split(b"\r\n")[:-1]]
    said = {name.lower(): value.strip(b" ") for name, _, value in pairs}
    return said if len(said) == len(pairs) else None


class Answering:
    """One hot request, from its beginning to its answer."""

    __slots__ = ("_begun", "_front", "_guard", "_reply", "head")

    def __init__(self, front: Front, guard: Guard, head: Head, reply: Reply) -> None:
        self.head = head
        self._front = front
        self._guard = guard
        self._reply = reply
        self._begun = time.perf_counter()

    def __repr__(self) -> str:
        return f"<Answering, for {time.perf_counter() - self._begun:.3f} s>"

    def ended(self, live: Live) -> None:
        """Answer with the record of a call that ended; else once it is durable."""
        if not live.status.is_terminal:
            spawn(self.answer(self._front.promised(live)), "hot promise")
            return
        if live.away is not None:
            spawn(self.answer(self._front.told(live)), "hot answer")
            return
        try:
            self._tell(live.call())
        except Exception as error:
            self.refuse(error)

    async def answer(self, asked: Awaitable[Call]) -> None:
        """Answer with the record that comes."""
        try:
            call = await asked
        except Exception as error:
            self.refuse(error)
        else:
            self._tell(call)

    def refuse(self, error: Exception) -> None:
        """Answer that it could not be."""
        response = self._guard.refused("POST", ROUTE, error)
        self._give(response.status, _packed(response))

    def _tell(self, call: Call) -> None:
        status = 200 if self.head.wait_s and call.status.is_terminal else 202
        self._give(status, _told(call, status))

    def _give(self, status: int, packed: bytes) -> None:
        took_s = time.perf_counter() - self._begun
        self._guard.meter.answered(ROUTE, "POST", status, took_s)
        self._reply(packed)


class Express:
    """Reads and answers hot requests, of all connections."""

    def __init__(self, front: Front, guard: Guard) -> None:
        self._front = front
        self._guard = guard

    def __repr__(self) -> str:
        return f"<Express over {self._front!r}>"

    def head(self, raw: bytes) -> Head | None:
        """Return what the whole head of a request says; None if it leaves anything open."""
        match = _HOT.fullmatch(raw) if len(raw) <= MAX_HEAD_BYTES else None
        said = _said(match[2]) if match else None
        if match is None or said is None or said.keys() & _QUESTIONS:
            return None
        if said.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        length = said.get(b"content-length", b"")
        if said.get(b"content-type") != b"application/json" or not length.isdigit():
            return None
        host, token = said.get(b"host", b""), said.get(b"authorization", b"")
        if not self._guard.lets_in(host.decode(), token.decode()):
            return None
        asked = None if match[1] is None else float(match[1])
        if asked is not None and asked > MAX_WAIT_S:
            return None
        seconds = wait_s(WaitQuery(wait=asked), said.get(b"prefer", b"").decode())
        parents, states = (
            [said[name].decode()] if name in said else []
            for name in (b"traceparent", b"tracestate")
        )
        return Head(raw, int(length), seconds, read_trace(parents, states))

    def body(self, raw: bytes) -> InvokeFunction | None:
        """Return what is asked; None if it has to be refused."""
        try:
            body = read(InvokeFunction, raw)
            check_depth(bytes(body.params))
        except BadRequest:
            return None
        return body

    def begin(self, head: Head, body: InvokeFunction, reply: Reply) -> None:
        """Have the call made, and ``reply`` called with the bytes of the answer, once."""
        answering = Answering(self._front, self._guard, head, reply)
        if not (head.wait_s and self._begin(answering, body)):
            spawn(
                answering.answer(self._front.asked(body, head.wait_s, head.trace)), "hot call"
            )

    def _begin(self, answering: Answering, body: InvokeFunction) -> bool:
        """Begin a call whose end is waited for, without a task; return whether that went."""
        head = answering.head
        try:
            live = self._front.begin(body, head.trace)
        except Exception as error:
            answering.refuse(error)
            return True
        if live is not None:
            self._front.watch(live, head.wait_s, lambda: answering.ended(live))
        return live is not None


def _told(call: Call, status: int) -> bytes:
    if status == 200:
        return _message("200 OK", "", to_json(call))
    return _message("202 Accepted", f"Location: /call/{call.call_num}\r\n", to_json(call))


def _packed(response: web.Response) -> bytes:
    """Return a refusal, which is JSON and short, as it travels."""
    headers = response.headers.items()
    fields = "".join(f"{n}: {value}\r\n" for n, value in headers if n not in _EVERYWHERE)
    body = response.body if isinstance(response.body, bytes) else b""
    return _message(f"{response.status} {response.reason}", fields, body)


def _message(status: str, fields: str, body: bytes) -> bytes:
    """Return an answer in JSON with the headers that aiohttp gives to it."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}"
        f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n"
        f"Server: {SERVER_SOFTWARE}\r\n\r\n"
    ).encode() + body
