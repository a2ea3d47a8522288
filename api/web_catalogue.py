"""The routes of runtimes and functions: register, show, change, remove, download."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web

from api import answers
from api.asked import Asked
from api.bodies import RegisterRuntime, check_settings, image_function
from api.front import wall_clock_ms
from api.guard import json_response
from api.moments import iso
from api.pace import Pace, json_body
from api.packages import Uploading
from api.prepared import answer_prepared
from api.preparing import OnText
from api.queries import (
    DeleteQuery,
    FunctionPath,
    NewFunctionPath,
    NewImagePath,
    NoPath,
    NoQuery,
    PrepareQuery,
    RevisionQuery,
    RuntimePath,
)
from api.reading import patched, read_patch, read_settings
from api.service import Service
from api.uploads import read_upload
from wire import records
from wire.errors import UnknownFunction
from wire.models import Function, Package, Spec


class CatalogueRoutes:
    """Answers what is asked about runtimes and functions, and changes them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._catalogue = service.catalogue

    def __repr__(self) -> str:
        return f"<CatalogueRoutes over {self._catalogue!r}>"

    # --- runtimes ----------------------------------------------------------------------

    async def register_runtime(self, asked: Asked[NoPath, NoQuery]) -> web.Response:
        """Register a runtime, or a new revision of it."""
        body: RegisterRuntime = await asked.body()
        runtime = body.runtime(str(uuid.uuid4()), _now())
        changed = await self._service.change(records.RegisterRuntime(runtime=runtime))
        return json_response(changed.item.runtime, _created(changed))

    async def list_runtimes(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer the names of the runtimes."""
        return json_response(self._catalogue.runtimes())

    async def get_runtime(self, asked: Asked[RuntimePath, NoQuery]) -> web.Response:
        """Answer the newest revision of a runtime."""
        return json_response(self._catalogue.runtime(asked.at.runtime))

    async def delete_runtime(self, asked: Asked[RuntimePath, NoQuery]) -> web.Response:
        """Remove a runtime that no function uses."""
        name = self._catalogue.runtime(asked.at.runtime).name
        await self._service.change(records.DeleteRuntime(name=name))
        return web.Response(status=204)

    # --- functions ---------------------------------------------------------------------

    async def register_function(
        self, asked: Asked[NewFunctionPath, PrepareQuery]
    ) -> web.StreamResponse:
        """Take a package in and register it as a function, or a new revision of one."""
        at = asked.at
        self._catalogue.runtime(at.runtime)
        async with self._service.packages.uploading() as uploading:
            settings = read_settings(await self._fields(asked.request, uploading))
            package = uploading.require()

            def composed() -> Function:
                made = settings.function(
                    name=at.function,
                    runtime=at.runtime,
                    package=package,
                    uuid=str(uuid.uuid4()),
                    at=_now(),
                )
                return self._checked(made)

            return await self._settled(asked, uploading, composed)

    async def register_image(self, asked: Asked[NewImagePath, NoQuery]) -> web.Response:
        """Register an image as a function, or a new revision of one."""
        body = await asked.body()
        name = asked.at.function

        def composed() -> Function:
            made = image_function(body, name=name, uuid=str(uuid.uuid4()), at=_now())
            return self._checked(made)

        return self._changed(await self._service.change_function(composed))

    async def update_function(
        self, asked: Asked[FunctionPath, PrepareQuery]
    ) -> web.StreamResponse:
        """Change some settings of a function, its package, or both."""
        name = asked.at.function
        self._catalogue.function(name)
        async with self._service.packages.uploading() as uploading:
            if asked.request.content_type == "multipart/form-data":
                patch = read_patch(await self._fields(asked.request, uploading))
            else:
                stall_s = self._service.settings.upload_stall_s
                patch = read_patch(await json_body(asked.request, stall_s))

            def composed() -> Function:
                # Of the newest revision: another change may have come while this was read.
                before = self._catalogue.function(name)
                package = uploading.package or before.package
                return self._checked(patched(before, patch, package, _now()))

            return await self._settled(asked, uploading, composed)

    async def list_functions(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer the names of the functions."""
        return json_response(self._catalogue.functions())

    async def get_function(self, asked: Asked[FunctionPath, RevisionQuery]) -> web.Response:
        """Answer a function: its newest revision, or the one that is asked for."""
        return self._shown(self._catalogue.revision(asked.at.function, asked.query.revision))

    async def list_revisions(self, asked: Asked[FunctionPath, NoQuery]) -> web.Response:
        """Answer every revision of a function, the oldest first."""
        found = self._catalogue.revisions(asked.at.function)
        return json_response([answers.function(each, self._count(each)) for each in found])

    async def get_package(
        self, asked: Asked[FunctionPath, RevisionQuery]
    ) -> web.StreamResponse:
        """Answer the bytes of a function's package."""
        function = self._catalogue.revision(asked.at.function, asked.query.revision)
        if function.package is None:
            raise UnknownFunction(
                f"function {function.function_name!r} has no package",
                hint="it is an image: its code is in the image",
            )
        return web.FileResponse(
            self._service.packages.found(function.package),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": _disposition(function.package),
            },
        )

    async def delete_function(self, asked: Asked[FunctionPath, DeleteQuery]) -> web.Response:
        """Remove a function; accepted calls of it still run, unless they are cancelled too."""
        found = self._catalogue.function(asked.at.function)
        await self._service.change(records.DeleteFunction(name=found.function_name))
        if asked.query.cancel:
            self._service.cancel_all(found.project, found.function_name)
        return web.Response(status=204)

    # --- how a function changes --------------------------------------------------------

    async def _fields(self, request: web.Request, uploading: Uploading) -> dict[str, Any]:
        pace = Pace(self._service.settings.upload_stall_s)
        return await read_upload(request, uploading, pace)

    async def _settled(
        self,
        asked: Asked[NewFunctionPath, PrepareQuery] | Asked[FunctionPath, PrepareQuery],
        uploading: Uploading,
        composed: Callable[[], Function],
    ) -> web.StreamResponse:
        """Make the change that a request asks for, and answer it."""
        await uploading.keep()

        async def change() -> web.Response:
            with uploading.naming():
                return self._changed(await self._service.change_function(composed))

        # An image has no bundle that could be made first.
        if not asked.query.prepare or (function := composed()).image is not None:
            return await change()
        return await self._prepared(asked.request, function, change)

    async def _prepared(
        self,
        request: web.Request,
        function: Function,
        change: Callable[[], Awaitable[web.Response]],
    ) -> web.StreamResponse:
        """Have the function's bundle made on a node first, then change the catalogue."""
        spec = Spec(function=function, runtime=self._catalogue.runtime_of(function))

        async def prepare(on_text: OnText) -> None:
            await self._service.preparing.prepare(spec, on_text)

        return await answer_prepared(request, prepare, change)

    def _checked(self, function: Function) -> Function:
        """Return a function that its contract fits."""
        check_settings(function, self._catalogue.runtime_of(function).contract)
        return function

    def _changed(self, changed: records.Changed) -> web.Response:
        return self._shown(records.function_of(changed), _created(changed))

    def _shown(self, function: Function, status: int = 200) -> web.Response:
        return json_response(answers.function(function, self._count(function)), status)

    def _count(self, function: Function) -> int:
        return self._service.counts.get(f"{function.project}/{function.function_name}", 0)


def _now() -> str:
    return iso(wall_clock_ms())


def _created(changed: records.Changed) -> int:
    return 201 if changed.change == "created" else 200


def _disposition(package: Package) -> str:
    name = package.originalname
    # For those who know no other form (curl -J): what is safe in it, in ASCII.
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
