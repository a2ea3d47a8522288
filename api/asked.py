"""One endpoint as data, and one request to it as its handler gets it.

A route is said once: the server's routing, the reading of path, query and body, the OpenAPI
document, /docs and the hints of errors are all made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from aiohttp import web

from api import reading
from api.pace import json_body
from api.queries import NoPath, NoQuery, PathModel
from wire.errors import SkepError
from wire.models import Model

P = TypeVar("P", bound=PathModel)
Q = TypeVar("Q", bound=Model)

JSON: Final = "application/json"
#: One JSON object a line, each as soon as there is something to say.
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Answer:
    """One good answer: when it is given, and what it carries (None: nothing)."""

    when: str
    model: Any = None
    media: tuple[str, ...] = (JSON,)
    #: Names of headers, as ``api.routes`` describes them.
    headers: tuple[str, ...] = ()


def ok(when: str, model: Any) -> dict[int, Answer]:
    """Return the answers of a route that has one good one: 200."""
    return {200: Answer(when, model)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    #: The method of a handler that answers it; in the document its operationId.
    name: str
    tag: str
    summary: str
    answers: dict[int, Answer]
    at: type[PathModel] = NoPath
    query: type[Model] = NoQuery
    #: A JSON body, and a multipart form (its text fields) with a file ``module``.
    json: type[Model] | None = None
    form: type[Model] | None = None
    needs_module: bool = False
    #: A body without end: a JSON object a line, each like this.
    lines: type[Model] | None = None
    headers: tuple[str, ...] = ()
    #: Beside those that every route may answer.
    errors: tuple[type[SkepError], ...] = ()
    #: Answered without a token: whoever watches over processes has none.
    is_open: bool = False
    #: What follows ``curl`` in an example, beside the address.
    example: str = ""
    example_path: str = ""

    @property
    def bodies(self) -> list[type[Model]]:
        """Return the models of what it may be sent."""
        return [model for model in (self.json, self.form, self.lines) if model is not None]

    @property
    def operation(self) -> str:
        """Return the name in camelCase, as names are spelled outside."""
        first, *rest = self.name.split("_")
        return first + "".join(map(str.capitalize, rest))


@dataclass(frozen=True, slots=True)
class Asked(Generic[P, Q]):
    """A request whose path and query have been read as its route says."""

    route: Route
    request: web.Request
    at: P
    query: Q
    #: How long the body may pause.
    stall_s: float

    async def body(self) -> Any:
        """Return the JSON body, an instance of what the route names.

        Raises:
            BadRequest: it is no JSON, or does not fit; the field is named.
        """
        if self.route.json is None:
            raise TypeError(f"{self.route.path} takes no JSON")
        return reading.read(self.route.json, await json_body(self.request, self.stall_s))
