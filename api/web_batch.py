"""Many calls in one request: lines in, lines out as calls are accepted, or have ended.

Each line is a call as any other. What is worked on at once is bounded in calls and bytes, and
a line has left the window only when its answer was taken: so a client that reads slowly is
read from slowly, and a request may be without end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from aiohttp import web

from api.answers import BatchLine, ErrorShown
from api.asked import NDJSON, Asked
from api.bodies import InvokeLine
from api.front import Front
from api.guard import STATUS
from api.keyed import key_of
from api.lines import lines_of
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
        self._calls = 0
        self._bytes = 0
        self._room = asyncio.Condition()
        self._writing = asyncio.Lock()

    async def run(self, max_line: int) -> None:
        """Begin a call for each line as there is room; return when all are answered."""
        index = 0
        async with asyncio.TaskGroup() as group:
            try:
                async for line in lines_of(self._request, self._stall_s, max_line):
                    if line is None:
                        await self._say(_refused(index, _too_long(max_line)))
                    elif line.strip():
                        await self._enter(len(line))
                        group.create_task(self._one(index, line))
                    index += 1
            except SkepError as error:
                # The answer has begun: that the body broke off can only be said in it.
                await self._say(_refused(index, error))

    async def _one(self, index: int, line: bytes) -> None:
        try:
            await self._say(await self._answer(index, line))
        finally:
            async with self._room:
                self._calls -= 1
                self._bytes -= len(line)
                self._room.notify_all()

    async def _enter(self, size: int) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._has_room(size))
            self._calls += 1
            self._bytes += size

    def _has_room(self, size: int) -> bool:
        # A line that is larger than all the room goes alone.
        fits = self._calls < MAX_CALLS and self._bytes + size <= MAX_BYTES
        return fits or not self._calls

    async def _answer(self, index: int, line: bytes) -> BatchLine:
        try:
            said = read(InvokeLine, line)
            check_depth(bytes(said.params))
            call = await self._patiently(said)
        except SkepError as error:
            return _refused(index, error)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("a line of a batch could not be answered")
            return _refused(index, BUG)
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
        if not self._wait_s:
            return await self._front.submit(body, self._trace)
        return await self._front.invoke(body, self._wait_s, self._trace)

    async def _say(self, line: BatchLine) -> None:
        """Write a line; who takes none for so long is gone, or might as well be."""
        async with self._writing, asyncio.timeout(self._stall_s):
            await self._response.write(to_json(line) + b"\n")


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
