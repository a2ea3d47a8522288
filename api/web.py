"""The routes of HTTP: read the request, ask the front, answer as the interface says."""

from __future__ import annotations

import os
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from api import bodies, queries
from api.front import Front, wall_clock_ms
from api.guard import Guard, json_body, json_response
from api.listing import Page
from api.moments import iso
from api.prepared import answer_prepared
from api.preparing import OnText
from api.roster import Session
from api.service import Service
from api.uploads import read_upload
from wire.errors import NoWorker, UnknownFunction
from wire.messages import Hello, WorkerHeartbeat
from wire.models import Call, Function, Logs, Spec, Status, to_json
from wire.process import release
from wire.records import (
    Changed,
    DeleteFunction,
    DeleteRuntime,
    ListCalls,
    RegisterFunction,
    RegisterRuntime,
)

#: What a JSON body may hold beside its params.
_BODY_ROOM = 1 << 20


class Web:
    """The HTTP side of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._front = Front(service)

    def __repr__(self) -> str:
        return f"<Web of {self._service!r}>"

    def application(self) -> web.Application:
        """Return the routes behind their guard."""
        settings = self._service.settings
        app = web.Application(
            middlewares=[Guard(settings).middleware()],
            client_max_size=settings.limits.params + _BODY_ROOM,
        )
        app.add_routes(
            [
                web.post("/invokeFunction", self.invoke_function),
                web.get("/call/{num}", self.get_call),
                web.delete("/call/{num}", self.delete_call),
                web.get("/call/{num}/logs", self.get_logs),
                web.get("/calls", self.get_calls),
                web.post("/registerRuntime", self.register_runtime),
                web.post("/registerFunction/{runtime}/{function}", self.register_function),
                web.get("/runtimes", self.get_runtimes),
                web.get("/functions", self.get_functions),
                web.get("/functions/{function}/package", self.get_package),
                web.delete("/runtimes/{runtime}", self.delete_runtime),
                web.delete("/functions/{function}", self.delete_function),
                web.get("/workers", self.get_workers),
                web.get("/healthz", self.get_health),
                web.get("/readyz", self.get_ready),
            ]
        )
        return app

    # --- calls -------------------------------------------------------------------------

    async def invoke_function(self, request: web.Request) -> web.Response:
        """Accept a call; answer when it is durable, or when it ended (``wait``)."""
        body = bodies.read_invocation(await json_body(request))
        wait_s = queries.wait_s(request.query, request.headers.get("Prefer", ""))
        if wait_s == 0:
            return _accepted(await self._front.submit(body))
        call = await self._front.invoke(body, wait_s)
        return _call(call) if call.status.is_terminal else _accepted(call)

    async def get_call(self, request: web.Request) -> web.Response:
        """Answer one record, at once or when the call ended (``wait``)."""
        num = queries.call_num(request.match_info["num"])
        wait_s = queries.wait_s(request.query, request.headers.get("Prefer", ""))
        return _call(await self._front.call(num, wait_s))

    async def delete_call(self, request: web.Request) -> web.Response:
        """Cancel a call: 200 and the record if it has ended, 202 while a worker is asked."""
        call = await self._front.cancel(queries.call_num(request.match_info["num"]))
        return _call(call) if call.status.is_terminal else _accepted(call)

    async def get_logs(self, request: web.Request) -> web.Response:
        """Answer what a call printed: text, or JSON when that is asked for."""
        logs = await self._front.logs(queries.call_num(request.match_info["num"]))
        if "application/json" in request.headers.get("Accept", ""):
            return json_response(logs)
        return web.Response(text=_log_text(logs))

    async def get_calls(self, request: web.Request) -> web.Response:
        """Answer a page of records as ``{"c1": …}``, with a link to the next."""
        query = queries.page(request.query)
        page = await self._front.calls(query)
        response = json_response({f"c{call.call_num}": call for call in page.calls})
        if page.next is not None:
            response.headers["Link"] = _next_link(query, page)
        return response

    # --- catalogue ---------------------------------------------------------------------

    async def register_runtime(self, request: web.Request) -> web.Response:
        """Register a runtime, or a new revision of it."""
        body = bodies.read_runtime(await json_body(request))
        runtime = body.runtime(str(uuid.uuid4()), iso(wall_clock_ms()))
        changed = await self._service.change(RegisterRuntime(runtime=runtime))
        return json_response(changed.item.runtime, _created(changed))

    async def register_function(self, request: web.Request) -> web.StreamResponse:
        """Take a package in and register it as a function, or a new revision of one."""
        runtime = queries.name(request.match_info["runtime"], "runtime")
        name = queries.name(request.match_info["function"], "function")
        self._service.catalogue.runtime(runtime)
        queries.prepare_asked(request.query)
        package, settings = await read_upload(request, self._service.packages)
        try:
            function = settings.function(
                name=name,
                runtime=runtime,
                package=package,
                uuid=str(uuid.uuid4()),
                at=iso(wall_clock_ms()),
            )
            return await self._change_function(request, function)
        finally:
            self._service.packages.release(package)

    async def _change_function(
        self, request: web.Request, function: Function
    ) -> web.StreamResponse:
        """Register a function, or a new revision, its dependencies first if that is asked."""
        service = self._service

        async def prepare(on_text: OnText) -> None:
            runtime = service.catalogue.runtime(function.runtime_name, function.project)
            spec = Spec(function=function, runtime=runtime)
            await service.preparing.prepare(spec, on_text)

        async def change() -> web.Response:
            if function.package is not None:
                service.packages.keep(function.package)
            changed = await service.change(RegisterFunction(function=function))
            return self._function(changed.item.function or function, _created(changed))

        if not queries.prepare_asked(request.query):
            return await change()
        return await answer_prepared(request, prepare, change)

    async def get_runtimes(self, _: web.Request) -> web.Response:
        """Answer the names of the runtimes."""
        return json_response(self._service.catalogue.runtimes())

    async def get_functions(self, _: web.Request) -> web.Response:
        """Answer the names of the functions."""
        return json_response(self._service.catalogue.functions())

    async def get_package(self, request: web.Request) -> web.StreamResponse:
        """Answer the bytes of a function's package."""
        function = self._service.catalogue.function(request.match_info["function"])
        if function.package is None:
            raise UnknownFunction(f"function {function.function_name!r} has no package")
        name = quote(function.package.originalname)
        return web.FileResponse(
            self._service.packages.path(function.package),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            },
        )

    async def delete_runtime(self, request: web.Request) -> web.Response:
        """Remove a runtime that no function uses."""
        name = self._service.catalogue.runtime(request.match_info["runtime"]).name
        await self._service.change(DeleteRuntime(name=name))
        return web.Response(status=204)

    async def delete_function(self, request: web.Request) -> web.Response:
        """Remove a function; accepted calls of it still run."""
        found = self._service.catalogue.function(request.match_info["function"])
        await self._service.change(DeleteFunction(name=found.function_name))
        return web.Response(status=204)

    # --- the platform ------------------------------------------------------------------

    async def get_workers(self, _: web.Request) -> web.Response:
        """Answer who is there, and who was."""
        roster = self._service.roster
        here = [_worker(session) for session in roster.sessions.values()]
        names = {worker["name"] for worker in here}
        gone = [
            _shown(one.hello, one.heard_ms, "gone", 0, None)
            for one in roster.gone.values()
            if one.hello.name not in names
        ]
        return json_response(sorted(here + gone, key=lambda worker: str(worker["name"])))

    async def get_health(self, _: web.Request) -> web.Response:
        """Answer that this process lives."""
        return json_response({"status": "ok", "version": release(), "pid": os.getpid()})

    async def get_ready(self, _: web.Request) -> web.Response:
        """Answer whether a call would find a worker."""
        count = sum(session.takes_work for session in self._service.roster.sessions.values())
        if not count:
            raise NoWorker("no worker is connected", hint="GET /workers shows who was")
        return json_response({"status": "ready", "workers": count})

    def _function(self, function: Function, status: int) -> web.Response:
        count = self._service.counts.get(f"{function.project}/{function.function_name}", 0)
        # The count is no part of the model: it changes with every call.
        body = to_json(function)[:-1] + b',"callCount":%d}' % count
        return web.Response(body=body, status=status, content_type="application/json")


def _log_text(logs: Logs) -> str:
    if not logs.omitted:
        return logs.stdout + logs.stderr
    return f"{logs.stdout}{logs.stderr}\n[{logs.omitted} bytes in the middle were left out]\n"


def _created(changed: Changed) -> int:
    return 201 if changed.change == "created" else 200


def _call(call: Call) -> web.Response:
    return web.Response(body=to_json(call), content_type="application/json")


def _accepted(call: Call) -> web.Response:
    return web.Response(
        body=to_json(call),
        status=202,
        content_type="application/json",
        headers={"Location": f"/call/{call.call_num}"},
    )


def _next_link(query: ListCalls, page: Page) -> str:
    said: dict[str, Any] = {"order": query.order, "limit": query.limit, "after": page.next}
    if isinstance(query.status, Status):
        said["status"] = query.status.value
    if query.function is not None:
        said["function"] = query.function
    return f'</calls?{urlencode(said)}>; rel="next"'


def _worker(session: Session) -> dict[str, Any]:
    heartbeat = session.heartbeat
    state = "draining" if session.is_draining else "up"
    running = heartbeat.running if heartbeat else 0
    return _shown(session.hello, session.heard_ms, state, running, heartbeat)


def _shown(
    hello: Hello, heard_ms: int, state: str, running: int, heartbeat: WorkerHeartbeat | None
) -> dict[str, Any]:
    return {
        "name": hello.name,
        "node": hello.node_id,
        "pid": hello.pid,
        "state": state,
        "slots": hello.slots,
        "running": running,
        "sandbox": hello.sandbox,
        "isolation": hello.isolation,
        "lastSeen": iso(heard_ms),
        "warm": dict(heartbeat.warm) if heartbeat else {},
    }
