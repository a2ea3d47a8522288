"""One request and its answer in HTTP/1.1: the one front door of ``h11``. Pure, no socket.

A connection has one exchange. A loopback connection costs far less than finding out whether
one that was kept is still good, and a call is never sent twice because of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import h11
import msgspec

from wire.errors import ProtocolError

#: What status line and headers of an answer may have together.
HEADER_BYTES: Final = 64 << 10


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered, as far as it is kept."""

    status: int
    phrase: str
    content_type: str
    body: bytes
    #: Whether the body is all that came; else it met the limit, and the rest was not read.
    is_whole: bool


class Exchange:
    """A request that is to be sent, and what has come of its answer."""

    def __init__(self, host: str, headers: Mapping[str, str], body: bytes, limit: int) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES)
        self._limit = limit
        self._head: h11.Response | None = None
        self._body = bytearray()
        said = {
            "Host": host,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Accept": "*/*",
            "Connection": "close",
            **headers,
        }
        request = h11.Request(method="POST", target="/", headers=list(said.items()))
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        #: The bytes to send.
        self.request = b"".join(filter(None, map(self._connection.send, events)))

    def __repr__(self) -> str:
        return f"<Exchange: {len(self._body)} bytes of an answer>"

    def take(self, data: bytes) -> Answer | None:
        """Take what came (nothing is the end); return the answer once it is there.

        Raises:
            EOFError: it ended before the answer did.
            ProtocolError: this is no HTTP.
        """
        try:
            self._connection.receive_data(data)
            return self._next()
        except h11.RemoteProtocolError as error:
            if not data:
                raise EOFError("the connection ended before the answer did") from error
            raise ProtocolError(f"its answer is no HTTP: {error}") from error

    def _next(self) -> Answer | None:
        while True:
            match event := self._connection.next_event():
                case h11.Response():
                    self._head = event
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > self._limit:
                        return self._answer(is_whole=False)
                case h11.EndOfMessage():
                    return self._answer(is_whole=True)
                case h11.InformationalResponse():
                    continue
                case h11.ConnectionClosed():
                    raise EOFError("the connection ended before the answer did")
                case _:
                    return None

    def _answer(self, *, is_whole: bool) -> Answer:
        head = self._head
        if head is None:
            raise ProtocolError("its answer has a body and no status")
        types = [value for name, value in head.headers if name == b"content-type"]
        return Answer(
            status=head.status_code,
            phrase=head.reason.decode(errors="replace"),
            content_type=types[0].decode(errors="replace") if types else "",
            body=bytes(self._body),
            is_whole=is_whole,
        )
