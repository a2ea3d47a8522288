"""aiohttp's server with four habits of ours.

What is no HTTP is answered in the one shape of errors; a client that connects and then says
nothing, or only the beginning of a request, or does not read its answer, does not stay for
ever; of too many connections idle ones make room; and hot requests pass aiohttp by
(``api.express``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from api.crowd import Crowd, room_for_connections
from api.express import BEGINNING, END, MAX_BYTES, Express, Head, is_whole
from api.guard import json_response
from api.pace import SLOWEST_BYTES_PER_S
from wire.listening import take_port, url_of

log = logging.getLogger(__name__)

#: How long handlers may take to answer once the api stops.
SHUTDOWN_S: Final = 3.0
#: How long an idle connection stays open between two requests.
KEEP_ALIVE_S: Final = 75.0
#: How long the rest of a hot request may take; clients that send it in two go well below.
HOLD_S: Final = 0.2


class Handler(web.RequestHandler):
    """One connection.

    Hot requests are answered here as long as it is sure where a request begins: when aiohttp
    is between two requests, and was given only whole ones. Once that is not sure, all that
    comes is aiohttp's.
    """

    #: How long the head of a first request may take.
    stall_s = 30.0
    express: Express | None = None
    _patience: asyncio.TimerHandle | None = None
    #: The head of the last hot request: the next one's is mostly the same.
    _head: Head | None = None
    #: What came of a hot request that is not all there, or behind one; and how long it is kept.
    _held = b""
    _holding: asyncio.TimerHandle | None = None
    #: Whether a hot request is under way, whether the connection ends with it, who waits.
    _is_answering = False
    _is_last = False
    _answered: asyncio.Future[None] | None = None
    #: Looks whether the client reads what was written.
    _reading: asyncio.TimerHandle | None = None
    _own: asyncio.Transport | None = None
    crowd: Crowd | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        # aiohttp forgets it when it hangs up, which may take as long as the client likes.
        self._own = self.transport
        if self.crowd is not None:
            self.crowd.came(self)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.stall_s, self._lose_patience)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        for timer in (self._patience, self._holding, self._reading):
            if timer is not None:
                timer.cancel()
        if self.crowd is not None:
            self.crowd.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a hot request, or give aiohttp what came."""
        if self.crowd is not None:
            self.crowd.heard(self)
        if self.express is None:
            super().data_received(data)
        elif self._is_answering:
            self._keep(self._held + data)
        else:
            self._sort(self.express, self._held + data if self._held else data)

    def pause_writing(self) -> None:
        """Look from now on whether the client reads."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch_reader(self) -> None:
        if self._own is not None:
            size = self._own.get_write_buffer_size()
            self._reading = self._loop.call_later(self.stall_s, self._look_at_reader, size)

    def _look_at_reader(self, size: int) -> None:
        """Hang up on a client that took too little of what waits for it."""
        left = 0 if self._own is None else self._own.get_write_buffer_size()
        if not left:
            return
        if size - left < self.stall_s * SLOWEST_BYTES_PER_S:
            log.info("a client did not read its answer for %g s", self.stall_s)
            self.hang_up()
        else:
            self._watch_reader()

    @property
    def is_busy(self) -> bool:
        """Return whether a request is under way."""
        return self._is_answering or not self._is_idle

    def hang_up(self) -> None:
        """End the connection at once, whatever the client has not read."""
        if self._own is not None:
            self._own.abort()

    def close(self) -> None:
        """Take no more requests, and hang up when the one under way is answered."""
        if self._is_answering:
            self._is_last = True
        else:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Let the request under way be answered, and hang up."""
        if self._is_answering:
            self._answered = self._loop.create_future()
            await asyncio.wait((self._answered,), timeout=timeout)
        await super().shutdown(timeout)

    def _sort(self, express: Express, data: bytes) -> None:
        """Take what came since the last request."""
        self._let_go()
        end = data.find(END) + len(END)
        if end < len(END) and BEGINNING.startswith(data[: len(BEGINNING)]):
            self._hold(data)
            return
        head, raw = self._head, data[:end]
        if head is None or head.raw != raw:
            head = express.head(raw)
        if head is None or not self._is_idle:
            self._give(data, is_sure=self._is_idle and is_whole(data))
            return
        size = end + head.length
        if len(data) < size:
            self._hold(data)
            return
        body = express.body(data[end:size])
        if body is None:
            self._give(data, is_sure=len(data) == size)
            return
        self._head, self._held = head, data[size:]
        self._request_count += 1
        self._is_answering = True
        express.begin(head, body, self._answer)

    def _answer(self, answer: bytes) -> None:
        self._is_answering = False
        if self._answered is not None:
            self._answered.set_result(None)
            self._answered = None
        if self.transport is None:
            return
        self.transport.write(answer)
        self._next_keepalive_close_time = self._loop.time() + KEEP_ALIVE_S
        if self._is_last:
            self.close()
        elif self._held:
            # Not here: what follows from the end that is answered is still being done.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what came while a request was under way."""
        if self.transport is None or self._is_answering or not self._held:
            return
        self.transport.resume_reading()
        self.data_received(b"")

    @property
    def _is_idle(self) -> bool:
        """Return whether aiohttp has answered all that it was given, and the client reads."""
        waits = self._waiter is not None and not self._waiter.done()
        return (waits or not self._request_count) and not (self._messages or self._paused)

    def _give(self, data: bytes, *, is_sure: bool) -> None:
        """Leave these bytes to aiohttp: they are one whole request (``is_sure``), or all is."""
        if not is_sure:
            self.express = None
        super().data_received(data)

    def _hold(self, data: bytes) -> None:
        """Wait a moment for the rest; a client that is slower is aiohttp's to judge."""
        if len(data) > MAX_BYTES:
            self._give(data, is_sure=False)
            return
        self._held = data
        self._holding = self._loop.call_later(HOLD_S, self._give_up)

    def _let_go(self) -> None:
        self._held = b""
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    def _give_up(self) -> None:
        data = self._held
        self._let_go()
        self._give(data, is_sure=False)

    def _keep(self, data: bytes) -> None:
        """Keep what comes before its turn; the client has to wait with more."""
        self._held = data
        if self.transport is not None and len(data) > MAX_BYTES:
            self.transport.pause_reading()

    def _process_keepalive(self) -> None:
        if self._is_answering:
            self._next_keepalive_close_time = self._loop.time() + KEEP_ALIVE_S
        super()._process_keepalive()

    def _lose_patience(self) -> None:
        # Later requests of the connection are under its ``keepalive_timeout``.
        if not self._request_count:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no request, or a failure that nobody caught, and hang up."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun already")
        if isinstance(exc, ConnectionError):
            # Nobody is there to be answered, and nothing of ours failed.
            log.debug("a client hung up before its request was over")
        elif status >= 500:
            log.error("a request could not be answered", exc_info=exc)
        said = (message or str(exc or "")).strip().partition("\n")[0][:200]
        error = {
            "code": "internal" if status >= 500 else "bad_request",
            "message": f"this is no HTTP request: {said}",
            "hint": "send HTTP/1.1 to this port; workers connect to another one",
        }
        if status >= 500:
            error |= {"message": "the api failed; its log says how", "hint": "report this bug"}
        response = json_response({"error": error}, status)
        response.force_close()
        return response


class _Server(web.Server):
    stall_s = Handler.stall_s
    express: Express | None = None
    crowd: Crowd | None = None

    def __call__(self) -> web.RequestHandler:
        handler = Handler(self, loop=self._loop, **self._kwargs)
        handler.stall_s, handler.express = self.stall_s, self.express
        handler.crowd = self.crowd
        return handler


class Runner(web.AppRunner):
    """Runs an application with our handler of connections."""

    __slots__ = ("_express", "_stall_s")

    def __init__(
        self, app: web.Application, stall_s: float, express: Express | None = None
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            keepalive_timeout=KEEP_ALIVE_S,
        )
        self._stall_s = stall_s
        self._express = express

    async def listen(self, host: str, port: int) -> str:
        """Set up and listen there, on a free port if it is 0; return the URL.

        Raises:
            BadRequest: the port cannot be had.
        """
        await self.setup()
        sockets = take_port(host, port, option="--port")
        for one in sockets:
            await web.SockSite(self, one).start()
        return url_of(sockets[0])

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # aiohttp has no setting for this; a server makes its connections in ``__call__``.
        server.__class__ = _Server
        server.stall_s = self._stall_s  # type: ignore[attr-defined]
        server.express = self._express  # type: ignore[attr-defined]
        server.crowd = Crowd(room_for_connections())  # type: ignore[attr-defined]
        return server
