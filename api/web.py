"""The HTTP side put together: each route of the table behind the guard, with its handler."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from api.asked import Asked, Route
from api.express import Express
from api.front import Front
from api.guard import Guard, Handler
from api.pace import expects
from api.queries import read_path, read_query
from api.routes import OPEN, PATHS, ROUTES
from api.service import Service
from api.web_batch import BatchRoutes
from api.web_calls import CallRoutes
from api.web_catalogue import CatalogueRoutes
from api.web_docs import DocsRoutes
from api.web_platform import PlatformRoutes

#: What a JSON body may hold beside its params.
_BODY_ROOM = 1 << 20


class Web:
    """The HTTP side of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        front = Front(service)
        self._guard = Guard(service.settings, PATHS, OPEN, service.meter)
        self.express = Express(front, self._guard)
        self._handlers = (
            CallRoutes(front),
            BatchRoutes(front, service.settings.limits.params + _BODY_ROOM),
            CatalogueRoutes(service),
            PlatformRoutes(service),
            DocsRoutes(service.settings, ROUTES),
        )

    def __repr__(self) -> str:
        return f"<Web of {self._service!r}>"

    def application(self) -> web.Application:
        """Return the routes behind their guard."""
        settings = self._service.settings
        app = web.Application(
            middlewares=[self._guard.middleware()],
            client_max_size=settings.limits.params + _BODY_ROOM,
        )
        for route in ROUTES:
            handler = _bound(route, self._handler(route), settings.upload_stall_s)
            methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
            for method in methods:
                app.router.add_route(method, route.path, handler, expect_handler=expects)
        return app

    def _handler(self, route: Route) -> Any:
        return next(
            getattr(each, route.name) for each in self._handlers if hasattr(each, route.name)
        )


def _bound(route: Route, handler: Any, stall_s: float) -> Handler:
    """Return what aiohttp calls: path and query are read before the handler runs."""

    async def bound(request: web.Request) -> web.StreamResponse:
        at = read_path(route.at, request.match_info)
        query = read_query(route.query, request.query)
        response: web.StreamResponse = await handler(Asked(route, request, at, query, stall_s))
        return response

    return bound
