"""The OpenAPI 3.1 document, made of the routes and of the models that validate requests.

Nothing of it is written by hand: a field that a model has is in the document, one that the
document has is validated by its model.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from api.answers import ErrorAnswer, FunctionShown
from api.asked import JSON, NDJSON, Answer, Route
from api.guard import STATUS
from wire.errors import BadRequest, Forbidden, SkepError, Unauthorized
from wire.models import KEY_PATTERN, Call, Model, Runtime

Schema = dict[str, Any]

FORM: Final = "multipart/form-data"
_REF: Final = "#/components/schemas/"
_SECURITY: Final = "token"

#: What requests may carry beside their fields.
REQUEST_HEADERS: Final[dict[str, Schema]] = {
    "Prefer": {
        "description": "wait=SECONDS (RFC 7240): as the parameter wait, which goes before it.",
        "schema": {"type": "string", "examples": ["wait=10"]},
    },
    "Idempotency-Key": {
        "description": "The same key with the same body is the same call: it is accepted once, "
        "and each repetition answers as the first. Kept with the call, known for 24 hours at "
        "least. With another body: 409.",
        "schema": {"type": "string", "pattern": KEY_PATTERN},
    },
    "traceparent": {
        "description": "W3C trace context; the function sees it as TRACEPARENT.",
        "schema": {"type": "string"},
    },
    "tracestate": {
        "description": "What belongs to the traceparent; the function sees it as TRACESTATE.",
        "schema": {"type": "string"},
    },
}
ANSWER_HEADERS: Final[dict[str, Schema]] = {
    "Location": {"description": "Where the call is.", "schema": {"type": "string"}},
    "Link": {
        "description": 'The next page, rel="next"; none on the last one.',
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "The key was known: this is the call of an earlier request.",
        "schema": {"const": "true"},
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string"}},
}
#: What any route may answer.
_ALWAYS: Final[tuple[type[SkepError], ...]] = (BadRequest, Forbidden, SkepError)
#: What is named how in paths, by the field that says its name.
_NAMED: Final[dict[Any, tuple[str, str]]] = {
    Call: ("num", "callNum"),
    FunctionShown: ("function", "functionName"),
    Runtime: ("runtime", "name"),
}
_NULL: Final[Schema] = {"type": "null"}
#: What a schema says beside the type.
_NOTES: Final = ("default", "description")
#: Answered with a time after which to try again.
_RETRY: Final = (429, 503)


def document(routes: Iterable[Route], *, version: str, has_token: bool) -> Schema:
    """Return the whole document."""
    routes = tuple(routes)
    schemas = _Schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        operation = _operation(route, schemas, has_token=has_token and not route.is_open)
        _link(route, routes, operation)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    components: Schema = {"schemas": schemas.shown()}
    if has_token:
        components["securitySchemes"] = {_SECURITY: {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skep",
            "version": version,
            "summary": "Functions as a service over ZeroMQ",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": components,
    }


def errors_of(route: Route, *, has_token: bool) -> dict[int, list[type[SkepError]]]:
    """Return what may go wrong with a route, by status."""
    kinds = dict.fromkeys((*_ALWAYS, *route.errors))
    if has_token:
        kinds[Unauthorized] = None
    found: dict[int, list[type[SkepError]]] = {}
    for kind in kinds:
        found.setdefault(STATUS.get(kind.code, 500), []).append(kind)
    return dict(sorted(found.items()))


class _Schemas:
    """The schemas of every model that a route names."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        bodies = {model for route in routes for model in route.bodies}
        shown = {
            answer.model
            for route in routes
            for answer in route.answers.values()
            if answer.model not in (None, bytes, str)
        }
        self._read = {model for route in routes for model in (route.at, route.query)}
        types = sorted(bodies | shown | self._read | {ErrorAnswer}, key=str)
        made, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
        self._of = dict(zip(types, map(_plain, made), strict=True))
        self._components = {name: _plain(schema) for name, schema in components.items()}
        for model in bodies:
            self._components[model.__name__] |= _plain(getattr(model, "also", {}))

    def of(self, model: Any) -> Schema:
        """Return the schema of a model, a reference if it has a name."""
        schema: Schema = self._of[model]
        return schema

    def fields(self, model: type[Model]) -> dict[str, Schema]:
        """Return the schema of each field of a model."""
        fields: dict[str, Schema] = self._components[model.__name__]["properties"]
        return fields

    def required(self, model: type[Model]) -> list[str]:
        """Return the fields that a model cannot do without."""
        return list(self._components[model.__name__].get("required", ()))

    def shown(self) -> Schema:
        """Return the components; what is read from path and query is no object of its own."""
        apart = {model.__name__ for model in self._read}
        return {name: each for name, each in self._components.items() if name not in apart}


def _operation(route: Route, schemas: _Schemas, *, has_token: bool) -> Schema:
    operation: Schema = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas, has_token=has_token),
    }
    if route.bodies:
        operation["requestBody"] = _body(route, schemas)
    if has_token:
        operation["security"] = [{_SECURITY: []}]
    return operation


def _parameters(route: Route, schemas: _Schemas) -> list[Schema]:
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in schemas.fields(route.at).items()
    ]
    found += [
        {"name": name, "in": "query", "schema": _as_text(schema, null=False)}
        for name, schema in schemas.fields(route.query).items()
    ]
    headers = {name: _plain(REQUEST_HEADERS[name]) for name in route.headers}
    return found + [{"name": name, "in": "header", **each} for name, each in headers.items()]


def _body(route: Route, schemas: _Schemas) -> Schema:
    content: Schema = {}
    if route.json is not None:
        content[JSON] = {"schema": schemas.of(route.json)}
    if route.form is not None:
        content[FORM] = {"schema": _form(route, route.form, schemas)}
    if route.lines is not None:
        content[NDJSON] = {"schema": _lines(schemas.of(route.lines))}
    return {"required": True, "content": content}


def _lines(schema: Schema) -> Schema:
    # A text, with an object a line.
    return {"type": "string", "contentMediaType": NDJSON, "contentSchema": schema}


def _form(route: Route, model: type[Model], schemas: _Schemas) -> Schema:
    """Return the schema of a form: the text ``null`` is null, and it has a file."""
    texts = {name: _as_text(each, null=True) for name, each in schemas.fields(model).items()}
    module = {
        "type": "string",
        "format": "binary",
        "contentMediaType": "application/octet-stream",
        "description": "a zip, tar or tar.gz; its root becomes the working folder",
    }
    return {
        "type": "object",
        "properties": {"module": module, **texts},
        "required": ["module"] if route.needs_module else [],
        "additionalProperties": False,
    }


def _responses(route: Route, schemas: _Schemas, *, has_token: bool) -> Schema:
    responses = {
        str(status): _good(answer, schemas) for status, answer in route.answers.items()
    }
    for status, kinds in errors_of(route, has_token=has_token).items():
        responses[str(status)] = _bad(status, kinds, schemas)
    return responses


def _good(answer: Answer, schemas: _Schemas) -> Schema:
    response: Schema = {"description": answer.when}
    if answer.model is not None:
        response["content"] = {
            media: {"schema": _shown(answer, media, schemas)} for media in answer.media
        }
    if answer.headers:
        response["headers"] = {name: ANSWER_HEADERS[name] for name in answer.headers}
    return response


def _link(route: Route, routes: tuple[Route, ...], operation: Schema) -> None:
    """Say where what a POST answers leads to: the routes that take its name or number."""
    for status, answer in route.answers.items() if route.method == "POST" else ():
        name, field = _NAMED.get(answer.model, ("", ""))
        links = {
            other.operation: {
                "operationId": other.operation,
                "parameters": {name: f"$response.body#/{field}"},
            }
            for other in routes
            if name in other.at.__struct_fields__
        }
        if links:
            operation["responses"][str(status)]["links"] = links


def _shown(answer: Answer, media: str, schemas: _Schemas) -> Schema:
    if media == JSON:
        return schemas.of(answer.model)
    if answer.media == (NDJSON,):
        return _lines(schemas.of(answer.model))
    if media.startswith("text/") or media == NDJSON:
        return {"type": "string"}
    return {"type": "string", "format": "binary", "contentMediaType": media}


def _bad(status: int, kinds: list[type[SkepError]], schemas: _Schemas) -> Schema:
    response: Schema = {
        "description": " ".join(f"`{kind.code}`: {sentence(kind)}" for kind in kinds),
        "content": {JSON: {"schema": schemas.of(ErrorAnswer)}},
    }
    if status in _RETRY:
        response["headers"] = {"Retry-After": ANSWER_HEADERS["Retry-After"]}
    return response


def sentence(kind: type[SkepError]) -> str:
    """Return what an error means, as its class says it."""
    if kind is SkepError:
        return "The api failed; its log says how."
    return (kind.__doc__ or "").partition("\n")[0]


def _plain(schema: Any) -> Any:
    """Return a schema as other languages read it: Python's end of text is none to them."""
    if isinstance(schema, dict):
        return {name: _word(name, value) for name, value in schema.items()}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _word(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if name == "pattern":
            return value.replace("\\Z", "$")
        if name == "description":
            return inspect.cleandoc(value).replace("``", "`")
    return _plain(value)


def _as_text(schema: Schema, *, null: bool) -> Schema:
    """Return the schema of what is spelled as text: in a form null has a word too."""
    apart: Schema = {name: schema[name] for name in _NOTES if name in schema}
    bare = {name: value for name, value in schema.items() if name not in _NOTES}
    options = [each for each in bare.pop("anyOf", [bare]) if each != _NULL]
    if null:
        options.append(_NULL)
    elif apart.get("default", 0) is None:
        del apart["default"]
    return {**(options[0] if len(options) == 1 else {"anyOf": options}), **apart}
