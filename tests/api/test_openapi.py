"""The table of routes, the OpenAPI document, /docs and docs/api.md say the same."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from api import docs_page, openapi, web
from api.asked import Route
from api.bodies import FunctionSettings, InvokeFunction, RegisterRuntime
from api.guard import STATUS
from api.routes import PATHS, ROUTES
from api.web_batch import BatchRoutes
from api.web_calls import CallRoutes
from api.web_catalogue import CatalogueRoutes
from api.web_docs import DocsRoutes
from api.web_platform import PlatformRoutes
from tests.api.room import open_room
from wire.errors import SkepError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENT = openapi.document(ROUTES, version="1.2.3", has_token=True)
ENDPOINTS = {f"{route.method} {route.path}" for route in ROUTES}


def test_every_endpoint_stands_on_the_page_and_no_other() -> None:
    documented = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`? ]*)`", PAGE))
    assert documented == ENDPOINTS


def test_every_endpoint_has_an_example_on_the_page() -> None:
    examples = re.findall(r"^curl (?:.*\\\n)*.*", PAGE, re.MULTILINE)
    shown = set()
    for example in examples:
        path = urlsplit("//" + re.findall(r"localhost:3000[^\s']*", example)[-1]).path
        said = re.search(r"-X (\w+)", example)
        is_post = re.search(r"--json|-F |--data-binary", example)
        method = said[1] if said else "POST" if is_post else "GET"
        shown |= {
            f"{method} {route.path}"
            for route in ROUTES
            if route.method == method and re.fullmatch(pattern(route), path)
        }
    assert shown == ENDPOINTS


def pattern(route: Route) -> str:
    return re.sub(r"\{\w+\}", "[^/]+", route.path)


def test_every_setting_and_field_stands_on_the_page() -> None:
    for model in (FunctionSettings, RegisterRuntime, InvokeFunction):
        for field in msgspec.structs.fields(model):
            assert f"`{field.encode_name}`" in PAGE, field.encode_name


def test_every_error_stands_on_the_page_with_its_status() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d{3} \|", line)]
    documented = {
        (int(row.split("|")[1]), code)
        for row in rows
        for code in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    ours = {(status, code) for code, status in STATUS.items()} | {
        (404, "not_found"), (405, "method_not_allowed"), (500, "internal"),
    }  # fmt: skip
    assert documented == ours


def test_the_document_has_every_route_and_no_other() -> None:
    listed = {
        f"{method.upper()} {path}"
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert listed == ENDPOINTS
    operations = [
        o["operationId"] for each in DOCUMENT["paths"].values() for o in each.values()
    ]
    assert len(set(operations)) == len(ROUTES)
    for path in DOCUMENT["paths"]:
        assert path in PATHS


def test_every_handler_is_in_the_table() -> None:
    """A handler that no route names would be served by nobody, and tested by nobody."""
    handlers = {
        name
        for kind in (CallRoutes, BatchRoutes, CatalogueRoutes, PlatformRoutes, DocsRoutes)
        for name in vars(kind)
        if not name.startswith("_")
    }
    assert handlers == {route.name for route in ROUTES}
    assert "router.add" not in (ROOT / "api" / "main.py").read_text(encoding="utf-8")
    source = Path(web.__file__).read_text(encoding="utf-8")
    assert source.count("add_route") == 1


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_needed() -> None:
    names = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) <= names
    # It stands in the form beside the file, where it cannot be referred to.
    assert names - references(DOCUMENT) == {"#/components/schemas/FunctionSettings"}


def test_paths_and_their_parameters_fit() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            inside = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert inside == set(re.findall(r"\{(\w+)\}", path))


def test_a_model_is_described_by_what_validates_it() -> None:
    schema = DOCUMENT["components"]["schemas"]["FunctionSettings"]
    fields = {field.encode_name for field in msgspec.structs.fields(FunctionSettings)}
    assert set(schema["properties"]) == fields
    timeout = schema["properties"]["timeout"]
    assert (timeout["minimum"], timeout["maximum"], timeout["default"]) == (1, 300, 5.0)
    assert schema["additionalProperties"] is False
    assert "\\\\Z" not in json.dumps(DOCUMENT), "other languages know no such end of a text"


def test_answers_that_are_errors_are_described() -> None:
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        told = operation["responses"]
        for status, kinds in openapi.errors_of(route, has_token=not route.is_open).items():
            for kind in kinds:
                assert f"`{kind.code}`" in told[str(status)]["description"]
        assert ("security" in operation) is not route.is_open
    assert openapi.sentence(SkepError)


def test_without_a_token_there_is_no_security() -> None:
    text = json.dumps(openapi.document(ROUTES, version="1", has_token=False))
    assert "security" not in text
    assert '"401"' not in text


class Links(HTMLParser):
    """What a page loads, where it leads, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.inline: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.targets.append(str(given["href"]))
        elif "href" in given or "src" in given:
            self.loads.append(str(given.get("href") or given.get("src")))
        assert not any(name.startswith("on") or name == "style" for name in given)
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                assert self.open[-1:] or tag == "html"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.inline[self.open[-1]] = data


def test_the_page_for_people_has_all_and_loads_nothing() -> None:
    text = docs_page.page(ROUTES, DOCUMENT)
    links = Links()
    links.feed(text)
    links.close()
    assert links.open == []
    assert links.loads == ["data:,"]
    assert len(links.ids) == len(set(links.ids))
    for target in links.targets:
        assert target == "/openapi.json" or target.removeprefix("#") in links.ids, target
    for route in ROUTES:
        assert route.operation in links.ids
        assert route.summary in text
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(links.inline[kind].encode()).digest())
        assert f"{kind}-src 'sha256-{digest.decode()}'" in docs_page.POLICY
    assert "unsafe" not in docs_page.POLICY
    assert docs_page.POLICY.startswith("default-src 'none'")


async def test_they_are_served_also_without_a_token() -> None:
    async with open_room("--token", "geheim") as room:
        async with room.http.get(room.url + "/docs") as response:
            assert response.status == 200
            assert response.content_type == "text/html"
            assert response.headers["Content-Security-Policy"] == docs_page.POLICY
            assert "invokeFunction" in await response.text()
        status, document, _ = await room.ask("GET", "/openapi.json")
        assert (status, document["openapi"]) == (200, "3.1.0")
        assert document["components"]["securitySchemes"]
        assert (await room.ask("GET", "/runtimes"))[0] == 401


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /runtimes HTTP/1.1\r\nHost: localhost\r\n broken\r\nX\r\n\r\n",
        b"\xa5\x01\x02\x00\x00\r\n\r\n",
        b"GET /runtimes HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 99_999 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_in_the_one_shape(sent: bytes) -> None:
    async with open_room() as room:
        host = urlsplit(room.url)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        try:
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        assert b" 400 " in head.partition(b"\r\n")[0]
        assert b"application/json" in head
        error = json.loads(body)["error"]
        assert set(error) == {"code", "message", "hint"}
        assert error["code"] == "bad_request"
        assert (await room.ask("GET", "/healthz"))[0] == 200
