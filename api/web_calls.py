"""The routes of calls: invoke, look, wait, list, cancel."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from api.asked import Asked
from api.bodies import InvokeFunction
from api.front import Front
from api.guard import JSON_HEADERS, json_response
from api.keyed import Key, key_of
from api.listing import Page
from api.queries import CallPath, CallsQuery, NoPath, NoQuery, WaitQuery, wait_s
from api.reading import check_depth
from wire.models import Call, Logs, Status, to_json
from wire.traces import Trace, read_trace


class CallRoutes:
    """Answers what is asked about calls."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def __repr__(self) -> str:
        return f"<CallRoutes over {self._front!r}>"

    async def invoke_function(self, asked: Asked[NoPath, WaitQuery]) -> web.Response:
        """Accept a call; answer when it is durable, or when it ended (``wait``)."""
        body: InvokeFunction = await asked.body()
        check_depth(bytes(body.params))
        seconds = _wait_s(asked)
        trace = _trace(asked.request)
        key = key_of(asked.request.headers.get("Idempotency-Key"), body)
        if key is not None:
            return await self._invoke_once(body, key, seconds, trace)
        call = await self._front.asked(body, seconds, trace)
        return _call(call) if seconds and call.status.is_terminal else _accepted(call)

    async def _invoke_once(
        self, body: InvokeFunction, key: Key, seconds: float, trace: Trace
    ) -> web.Response:
        call, replayed = await self._front.once(body, key, seconds, trace)
        has_ended = seconds > 0 and call.status.is_terminal
        response = _call(call) if has_ended else _accepted(call)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    async def get_call(self, asked: Asked[CallPath, WaitQuery]) -> web.Response:
        """Answer one record, at once or when the call ended (``wait``)."""
        return _call(await self._front.call(asked.at.num, _wait_s(asked)))

    async def cancel_call(self, asked: Asked[CallPath, NoQuery]) -> web.Response:
        """Cancel a call: 200 and the record if it has ended, 202 while a worker is asked."""
        call = await self._front.cancel(asked.at.num)
        return _call(call) if call.status.is_terminal else _accepted(call)

    async def get_logs(self, asked: Asked[CallPath, NoQuery]) -> web.Response:
        """Answer what a call printed: text, or JSON when that is asked for."""
        logs = await self._front.logs(asked.at.num)
        if "application/json" in asked.request.headers.get("Accept", ""):
            return json_response(logs)
        return web.Response(text=_log_text(logs))

    async def list_calls(self, asked: Asked[NoPath, CallsQuery]) -> web.Response:
        """Answer a page of records as ``{"c1": …}``, with a link to the next."""
        page = await self._front.calls(asked.query)
        response = json_response({f"c{call.call_num}": call for call in page.calls})
        if page.next is not None:
            response.headers["Link"] = _next_link(asked.query, page)
        return response


def _wait_s(asked: Asked[Any, WaitQuery]) -> float:
    return wait_s(asked.query, asked.request.headers.get("Prefer", ""))


def _trace(request: web.Request) -> Trace:
    headers = request.headers
    return read_trace(headers.getall("traceparent", ()), headers.getall("tracestate", ()))


def _log_text(logs: Logs) -> str:
    if not logs.omitted:
        return logs.stdout + logs.stderr
    return f"{logs.stdout}{logs.stderr}\n[{logs.omitted} bytes in the middle were left out]\n"


def _call(call: Call) -> web.Response:
    return web.Response(body=to_json(call), headers=JSON_HEADERS)


def _accepted(call: Call) -> web.Response:
    return web.Response(
        body=to_json(call),
        status=202,
        content_type="application/json",
        headers={"Location": f"/call/{call.call_num}"},
    )


def _next_link(query: CallsQuery, page: Page[Call]) -> str:
    said: dict[str, Any] = {"order": query.order, "limit": query.limit, "after": page.next}
    if isinstance(query.status, Status):
        said["status"] = query.status.value
    if query.function is not None:
        said["function"] = query.function
    return f'</calls?{urlencode(said)}>; rel="next"'
