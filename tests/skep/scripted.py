"""An HTTP server on loopback that behaves as a test says: well, badly, or not at all."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from skep import Call

ID = "0" * 32


def call(status: str = "DONE", result: str = "", number: int = 7, **more: Any) -> Call:
    """Return the record of a call."""
    record: dict[str, Any] = {
        "funcName": "f", "params": {}, "callNum": number, "status": status, "result": result,
        "id": ID, "reason": None, "resultType": "text", "resultEncoding": None, **more,
    }  # fmt: skip
    return cast("Call", record)


def failed(message: str = "no", code: str = "raised", number: int = 7) -> Call:
    """Return the record of a call that raised."""
    return call("FAILED", number=number, reason={"code": code, "message": message})


def error(code: str, message: str = "it is so", hint: str = "do that") -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"code": code, "message": message, "hint": hint}}


@dataclass(frozen=True)
class Asked:
    """One request as it was read."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    length: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def is_batch(self) -> bool:
        return self.path.startswith("/invokeFunctions")

    @property
    def lines(self) -> list[Asked]:
        """Each line of a batch as the request that it stands for."""
        return [self._line(json.loads(line)) for line in self.body.split(b"\n")]

    def _line(self, said: dict[str, Any]) -> Asked:
        headers = {**self.headers, "idempotency-key": said.pop("idempotencyKey")}
        body = json.dumps(said).encode()
        return Asked(self.method, self.path, headers, body, len(body))


@dataclass(frozen=True)
class Say:
    """Answer; a body that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Reset:
    """Break the connection when the request was read: the client gets RST."""


@dataclass(frozen=True)
class Cut:
    """Promise a longer answer than is sent, then break the connection."""

    say: Say
    missing: int = 100


@dataclass(frozen=True)
class Pieces:
    """Send an answer in chunks; with ``whole`` False its end never comes."""

    pieces: list[bytes]
    content_type: str = "application/x-ndjson"
    whole: bool = True


@dataclass(frozen=True)
class Batch:
    """Answer each line of a batch as a request of its own would be, as they are done."""

    asked: Asked
    handler: Callable[[Asked], Any]


@dataclass(frozen=True)
class Hold:
    """Say nothing until the test lets go, then do the other thing."""

    until: threading.Event
    then: Any


Act = Say | Reset | Cut | Pieces | Hold | Batch
Handler = Callable[[Asked], Act]


class Script:
    """What the server does, first to last or by a function, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.acts: list[Act] = []
        self.handler: Handler | None = None
        self.asked: list[Asked] = []
        self.connections = 0
        self.keeps_bodies = True
        self._lock = threading.Lock()

    def next(self, asked: Asked) -> Act:
        with self._lock:
            self.asked.append(asked)
            if self.handler is None:
                # A client must not take the end of the script for a fault.
                return self.acts.pop(0) if self.acts else Say(418, error("script_over"))
        return Batch(asked, self.handler) if asked.is_batch else self.handler(asked)

    @property
    def lines(self) -> list[Asked]:
        """Return what was asked, each line of a batch by itself."""
        lines = [asked.lines if asked.is_batch else [asked] for asked in self.asked]
        return [line for some in lines for line in some]

    def says(self, *bodies: Any) -> None:
        """Answer 200 with each of these."""
        self.acts += [Say(body=body) for body in bodies]


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in two packets would wait for each other's acknowledgement.
    disable_nagle_algorithm = True
    script: Script

    def setup(self) -> None:
        super().setup()
        self.script.connections += 1

    def handle(self) -> None:
        # A client that goes away between two requests is nothing to report.
        with suppress(ConnectionError):
            super().handle()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body, left = b"", length
        while left:
            if not (piece := self.rfile.read(min(left, 1 << 16))):
                # The client went away in the middle of its request.
                self.close_connection = True
                return
            left -= len(piece)
            if self.script.keeps_bodies:
                body += piece
        headers = {name.lower(): value for name, value in self.headers.items()}
        with suppress(ConnectionError):
            self.act(self.script.next(Asked(self.command, self.path, headers, body, length)))

    do_GET = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815

    def act(self, act: Act) -> None:
        match act:
            case Hold():
                assert act.until.wait(20)
                self.act(act.then)
            case Reset():
                self.reset()
            case Cut():
                self.say(act.say, missing=act.missing)
                self.wfile.flush()
                self.reset()
            case Pieces():
                self.stream(act)
            case Batch():
                self.lines(act)
            case Say():
                self.say(act)

    def say(self, say: Say, missing: int = 0) -> None:
        data = say.bytes()
        self.send_response(say.status)
        for name, value in say.headers.items():
            self.send_header(name, value)
        if say.status != 204:
            self.send_header("Content-Length", str(len(data) + missing))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, act: Pieces) -> None:
        self.stream_head(act.content_type)
        for piece in act.pieces:
            self.chunk(piece)
        if act.whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.reset()

    def lines(self, batch: Batch) -> None:
        """A thread for each line; one that is to be reset takes the connection with it."""
        self.stream_head("application/x-ndjson")
        lock, broken = threading.Lock(), threading.Event()

        def answer(index: int, line: Asked) -> None:
            act = batch.handler(line)
            while isinstance(act, Hold):
                assert act.until.wait(20)
                act = act.then
            if not isinstance(act, Say):
                broken.set()
                return
            said = {"index": index, "status": act.status}
            # A record is told as one; else it is an error.
            said.update({"call": act.body} if "callNum" in act.body else act.body)
            with lock, suppress(ConnectionError):
                self.chunk(json.dumps(said).encode() + b"\n")

        threads = [
            threading.Thread(target=answer, args=(index, line))
            for index, line in enumerate(batch.asked.lines)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.reset() if broken.is_set() else self.wfile.write(b"0\r\n\r\n")

    def stream_head(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.flush()

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Only the last reference closes the socket.
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def scripted() -> Iterator[Script]:
    """Run a server within the block."""
    script = Script()
    handler = type("Connection", (_Connection,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{httpd.server_port}"
        try:
            yield script
        finally:
            httpd.shutdown()
            thread.join()


def by_params(value: Callable[[Any], Any]) -> Handler:
    """Return a server that calls a function with the params of each invocation."""
    numbers = iter(range(1, 1_000_000))

    def handle(asked: Asked) -> Act:
        answer = value(asked.json["params"])
        if isinstance(answer, (Say, Reset, Cut, Pieces, Hold)):
            return answer
        text = json.dumps(answer)
        return Say(200, call(result=text, number=next(numbers), resultType="json"))

    return handle


def number_of(path: str) -> int:
    """Return the number in /call/N."""
    found = re.match(r"/call/(\d+)", path)
    assert found, path
    return int(found[1])
