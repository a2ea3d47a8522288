"""The routes that describe the others: made once, from the table, at the start."""

from __future__ import annotations

from aiohttp import web

from api import docs_page, openapi
from api.asked import Asked, Route
from api.queries import NoPath, NoQuery
from api.settings import Settings
from wire.models import to_json
from wire.process import release


class DocsRoutes:
    """Answers what there is to ask."""

    def __init__(self, settings: Settings, routes: tuple[Route, ...]) -> None:
        document = openapi.document(routes, version=release(), has_token=bool(settings.token))
        self._document = to_json(document)
        self._page = docs_page.page(routes, document)

    def __repr__(self) -> str:
        return f"<DocsRoutes, {len(self._document)} B>"

    async def get_openapi(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer the OpenAPI document."""
        return web.Response(body=self._document, content_type="application/json")

    async def get_docs(self, _: Asked[NoPath, NoQuery]) -> web.Response:
        """Answer the page for people."""
        return web.Response(
            text=self._page, content_type="text/html", headers=docs_page.HEADERS
        )
