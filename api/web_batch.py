"""Many calls in one request: lines in, lines out as calls are accepted, or have ended.

Each line is a call as any other. What is worked on at once is bounded in calls and bytes, and
a line has left the window only when its answer was taken: so a client that reads slowly is
read from slowly, and a request may be without end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any, Final

from aiohttp import web

from api.answers import BatchLine, ErrorShown
from api.asked import NDJSON, Asked
from api.bodies import InvokeLine
from api.front import Front
from api.guard import STATUS
from api.keyed import key_of
from api.lines import lines_of
from api.live import Live
from api.pace import invite
from api.prepared import BUG
from api.queries import NoPath, WaitQuery, wait_s
from api.reading import check_depth, read
from wire.errors import BadRequest, QueueFull, SkepError, TooLarge
from wire.models import Call, to_json
from wire.traces import Trace, read_trace

log = logging.getLogger(__name__)

#: Calls of one request that are under way at once, and the bytes of their lines.
MAX_CALLS: Final = 256
MAX_BYTES: Final = 16 << 20
#: While the queue is full a line waits, and looks again this often.
FULL_S: Final = 0.05


class BatchRoutes:
    """Answers requests that hold many calls."""

    def __init__(self, front: Front, max_line: int) -> None:
        self._front = front
        self._max_line = max_line

    def __repr__(self) -> str:
        return f"<BatchRoutes over {self._front!r}>"

    async def invoke_functions(self, asked: Asked[NoPath, WaitQuery]) -> web.StreamResponse:
        """Accept the call of each line; answer each when it is durable, or ended (``wait``)."""
        request = asked.request
        _check(request)
        seconds = wait_s(asked.query, request.headers.get("Prefer", ""))
        headers = request.headers
        traces = headers.getall("traceparent", ()), headers.getall("tracestate", ())
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        # No one on the way may wait for a buffer to fill.
        response.headers.update({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        await invite(request)
        await response.prepare(request)
        batch = _Batch(self._front, asked, response, seconds, read_trace(*traces))
        try:
            await batch.run(self._max_line)
            await response.write_eof()
        except* (ConnectionError, TimeoutError):
            log.info("%s: the client hung up; what it had accepted goes on", request.path)
            if request.transport is not None:
                request.transport.abort()
        return response


class _Batch:
    """One request: lines begin calls as there is room, one task writes what they came to."""

    def __init__(
        self,
        front: Front,
        asked: Asked[NoPath, WaitQuery],
        response: web.StreamResponse,
        seconds: float,
        trace: Trace,
    ) -> None:
        self._front = front
        self._request = asked.request
        self._stall_s = asked.stall_s
        self._response = response
        self._wait_s = seconds
        self._trace = trace
        #: What is under way or not taken by the client yet.
        self._calls = 0
        self._bytes = 0
        #: Answers to be written, and the bytes of their lines.
        self._said: list[tuple[bytes, int]] = []
        self._group = asyncio.TaskGroup()
        #: Set when an answer is there; when some were taken; when the request is over.
        self._has_said = asyncio.Event()
        self._taken = asyncio.Event()
        self._over = False

    async def run(self, max_line: int) -> None:
        """Begin a call for each line as there is room; return when all are answered."""
        try:
            async with self._group:
                writing = self._group.create_task(self._write())
                await self._read(max_line)
                while self._calls:
                    await self._some_taken()
                writing.cancel()
        finally:
            self._over = True

    async def _read(self, max_line: int) -> None:
        index = 0
        try:
            async for line in lines_of(self._request, self._stall_s, max_line):
                if line is None or line.strip():
                    size = len(line or b"")
                    while not self._has_room(size):
                        await self._some_taken()
                    self._calls += 1
                    self._bytes += size
                    if line is None:
                        self._say(_refused(index, _too_long(max_line)), 0)
                    else:
                        self._begin(index, line)
                index += 1
        except SkepError as error:
            # The answer has begun: that the body broke off can only be said in it.
            self._calls += 1
            self._say(_refused(index, error), 0)

    def _has_room(self, size: int) -> bool:
        # A line that is larger than all the room goes alone.
        fits = self._calls < MAX_CALLS and self._bytes + size <= MAX_BYTES
        return fits or not self._calls

    async def _some_taken(self) -> None:
        self._taken.clear()
        await self._taken.wait()

    def _begin(self, index: int, line: bytes) -> None:
        """Begin the call of a line at once if that can be, else in a task."""
        size = len(line)
        try:
            said = read(InvokeLine, line)
            check_depth(bytes(said.params))
            live = self._begun(said)
        except QueueFull:
            live = None
        except SkepError as error:
            self._say(_refused(index, error), size)
            return
        except Exception:
            log.exception("a line of a batch could not be answered")
            self._say(_refused(index, BUG), size)
            return
        if live is None:
            self._later(index, size, self._patiently(said))
        else:
            self._front.watch(live, self._wait_s, lambda: self._ended(index, size, live))

    def _begun(self, said: InvokeLine) -> Live | None:
        if not self._wait_s or said.idempotency_key is not None:
            return None
        return self._front.begin(said.body(), self._trace)

    def _ended(self, index: int, size: int, live: Live) -> None:
        """Answer with the record of a call that ended; else once it is durable."""
        if self._over:
            return
        if not live.status.is_terminal:
            self._later(index, size, self._front.promised(live))
        elif live.away is not None:
            self._later(index, size, self._front.told(live))
        else:
            self._say(self._line(index, live.call()), size)

    def _later(self, index: int, size: int, asked: Coroutine[Any, Any, Call]) -> None:
        work = self._answer(index, size, asked)
        try:
            self._group.create_task(work)
        except RuntimeError:
            # Another line's task has found that the client hung up.
            work.close()
            asked.close()

    async def _answer(self, index: int, size: int, asked: Awaitable[Call]) -> None:
        try:
            line = self._line(index, await asked)
        except SkepError as error:
            line = _refused(index, error)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("a line of a batch could not be answered")
            line = _refused(index, BUG)
        self._say(line, size)

    def _line(self, index: int, call: Call) -> BatchLine:
        if not self._wait_s:
            return BatchLine(index=index, status=202, call_num=call.call_num)
        status = 200 if call.status.is_terminal else 202
        return BatchLine(index=index, status=status, call_num=call.call_num, call=call)

    async def _patiently(self, said: InvokeLine) -> Call:
        """Make a call, once there is room for it: nothing of it was accepted before."""
        while True:
            try:
                return await self._make(said)
            except QueueFull:
                await asyncio.sleep(FULL_S)
            transport = self._request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("nobody waits for this line any more")

    async def _make(self, said: InvokeLine) -> Call:
        body = said.body()
        key = key_of(said.idempotency_key, body)
        if key is not None:
            call, _ = await self._front.once(body, key, self._wait_s, self._trace)
            return call
        return await self._front.asked(body, self._wait_s, self._trace)

    def _say(self, line: BatchLine, size: int) -> None:
        self._said.append((to_json(line) + b"\n", size))
        self._has_said.set()

    async def _write(self) -> None:
        """Write what there is to say, all at once; whoever takes none for so long is gone."""
        while True:
            await self._has_said.wait()
            self._has_said.clear()
            said, self._said = self._said, []
            async with asyncio.timeout(self._stall_s):
                await self._response.write(b"".join(line for line, _ in said))
            self._calls -= len(said)
            self._bytes -= sum(size for _, size in said)
            self._taken.set()


def _check(request: web.Request) -> None:
    if request.content_type != NDJSON:
        sent: Any = request.headers.get("Content-Type", "nothing that says its type")
        raise BadRequest(
            f"this route takes {NDJSON}, one JSON object a line; sent was {sent[:80]}",
            hint=f"curl -N -T calls.jsonl -X POST -H 'Content-Type: {NDJSON}'",
        )
    if "Idempotency-Key" in request.headers:
        raise BadRequest(
            "one Idempotency-Key cannot be of many calls",
            hint='give each line its own: {"funcName": …, "idempotencyKey": …}',
        )


def _too_long(max_line: int) -> TooLarge:
    return TooLarge(
        f"the line is longer than {max_line} bytes", hint="params may be 6 MiB by default"
    )


def _refused(index: int, error: SkepError) -> BatchLine:
    shown = ErrorShown(**error.as_dict())
    return BatchLine(index=index, status=STATUS.get(error.code, 500), error=shown)
