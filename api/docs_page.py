"""GET /docs: the routes as one page of HTML that needs nothing from elsewhere.

Made of the OpenAPI document at a start of the api, so it shows what is served. Without
scripts all of it can be read; the script only filters and copies.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from api.asked import Route
from api.docs_look import SCRIPT, STYLE

Schema = dict[str, Any]
_REF: Final = "#/components/schemas/"


def _allowed(text: str) -> str:
    """Return how a policy names this very script or style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


#: Nothing is loaded, nothing is sent, nobody may put it in a frame.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_allowed(STYLE)}",
        f"script-src {_allowed(SCRIPT)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(routes: Iterable[Route], document: Schema) -> str:
    """Return the page."""
    routes, rows = tuple(routes), _Rows(document)
    tags = dict.fromkeys(route.tag for route in routes)
    sections = "".join(
        f'<section id="{tag}"><h2>{tag.capitalize()}</h2>'
        + "".join(rows.endpoint(route) for route in routes if route.tag == tag)
        + "</section>"
        for tag in tags
    )
    links = "".join(f'<a href="#{tag}">{tag}</a>' for tag in tags)
    version = escape(document["info"]["version"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><title>skep: the HTTP interface</title>'
        f"<style>{STYLE}</style></head><body><header>"
        f'<h1>skep <small>{version}</small></h1><nav>{links}<a href="/openapi.json">'
        'openapi.json</a></nav><input id="filter" type="search" autocomplete="off" '
        'placeholder="Filter: a path, a field, an error" aria-label="Filter endpoints">'
        f'</header><main>{sections}<p id="none" hidden>No endpoint has that in it.</p>'
        f"{rows.models()}</main><script>{SCRIPT}</script></body></html>\n"
    )


class _Rows:
    """Pieces of the page, by the document."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._schemas: Schema = document["components"]["schemas"]

    def endpoint(self, route: Route) -> str:
        """Return one endpoint, folded up."""
        operation = self._document["paths"][route.path][route.method.lower()]
        parts = [_curl(route), _parameters(operation), self._bodies(operation)]
        parts.append(self._answers(operation))
        method = route.method
        return (
            f'<details id="{route.operation}"><summary><b class="{method.lower()}">{method}</b>'
            f" <code>{escape(route.path)}</code> <span>{escape(route.summary)}</span></summary>"
            f"<div>{''.join(parts)}</div></details>"
        )

    def models(self) -> str:
        """Return what answers and bodies are made of."""
        shown = "".join(
            f'<details id="{name}"><summary><code>{name}</code> '
            f"<span>{_prose(_first(schema.get('description', '')))}</span></summary><div>"
            f"{self._fields(schema)}</div></details>"
            for name, schema in sorted(self._schemas.items())
        )
        return f'<section id="models"><h2>Models</h2>{shown}</section>'

    def _bodies(self, operation: Schema) -> str:
        content = operation.get("requestBody", {}).get("content", {})
        return "".join(
            f"<h3>Body: {escape(media)}</h3>{self._body(each['schema'])}"
            for media, each in content.items()
        )

    def _body(self, schema: Schema) -> str:
        ref = schema.get("$ref")
        return self._fields(self._schemas[ref.removeprefix(_REF)] if ref else schema)

    def _fields(self, schema: Schema) -> str:
        if "enum" in schema:
            return f"<p>{_type(schema)}</p>"
        required = schema.get("required", ())
        rows = [
            (
                f"<code>{escape(name)}</code>" + (" *" if name in required else ""),
                _type(field),
                _default(field) + _prose(_meaning(field)),
            )
            for name, field in schema.get("properties", {}).items()
        ]
        return _table(("Field", "Type", "Default, meaning"), rows)

    def _answers(self, operation: Schema) -> str:
        rows = [
            (f"<b>{status}</b>", _prose(each["description"]), _media(each))
            for status, each in operation["responses"].items()
        ]
        return "<h3>Answers</h3>" + _table(("Status", "When", "What"), rows)


def _curl(route: Route) -> str:
    method = "" if route.method == "GET" else f"-X {route.method} "
    more = f"{route.example} " if route.example else ""
    command = f"curl {method}{more}http://localhost:3000{route.example_path or route.path}"
    # An ampersand is the shell's unless it is quoted.
    if "&" in command:
        before, _, address = command.rpartition(" ")
        command = f"{before} '{address}'"
    return f"<pre><button type=button>copy</button><code>{escape(command)}</code></pre>"


def _parameters(operation: Schema) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>" + (" *" if each.get("required") else ""),
            f"{each['in']}: {_type(each['schema'])}",
            _default(each["schema"]) + _prose(_meaning(each)),
        )
        for each in operation["parameters"]
    ]
    return (
        "<h3>Parameters</h3>" + _table(("Name", "Type", "Default, meaning"), rows)
        if rows
        else ""
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{each}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _media(response: Schema) -> str:
    shown = [
        f"{_type(each['schema'])} <small>{escape(media)}</small>"
        for media, each in response.get("content", {}).items()
    ]
    shown += [f"header <code>{escape(name)}</code>" for name in response.get("headers", ())]
    return "<br>".join(shown)


def _type(schema: Schema) -> str:
    """Return the type of a value in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        return f"object of {_type(schema.get('additionalProperties') or {})}"
    return escape(str(kind)) + _range(schema)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" {low:,} to {high:,}"
    if low is not None:
        return f", {low:,} or more"
    above = f" above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
    return above + (f" up to {high:,}" if high is not None else "")


def _meaning(schema: Schema) -> str:
    """Return what a field is about; of one that may be null, its value's description."""
    said: str = schema.get("description") or next(
        (each["description"] for each in schema.get("anyOf", ()) if "description" in each), ""
    )
    return said


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    return f"<code>{escape(json.dumps(schema['default']))}</code> "


def _prose(text: str) -> str:
    """Return a description; what stands between backquotes is code."""
    pieces = escape(text).split("`")
    return "".join(
        f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces)
    )


def _first(text: str) -> str:
    return text.partition("\n")[0]
