"""Functions that are images, over HTTP: what is registered, refused, shown and pinned."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.room import open_room
from wire import images
from wire.errors import BadRequest
from wire.models import to_json

URL = "/registerFunction/image/run"


async def test_an_image_is_registered_changed_and_read() -> None:
    async with open_room() as room:
        body = {"image": "debian:12", "timeout": 9, "network": True, "env": {"A": "b"}}
        status, made, _ = await room.ask("POST", URL, body)
        assert status == 201, made
        assert (made["runtimeName"], made["image"], made["revision"]) == (
            "image",
            "debian:12",
            1,
        )
        assert (made["package"], made["timeout"], made["env"]) == (None, 9, {"A": "b"})
        assert (await room.ask("POST", URL, body))[0] == 200
        status, changed, _ = await room.ask("POST", URL, {"image": "debian:13"})
        assert (status, changed["revision"], changed["network"]) == (200, 2, False)
        status, patched, _ = await room.ask("PATCH", "/functions/run", {"memory": 64})
        assert (status, patched["revision"], patched["image"]) == (200, 3, "debian:13")
        assert (await room.ask("PATCH", "/functions/run?prepare=true", {"cpu": 2}))[0] == 200
        status, other, _ = await room.ask("PATCH", "/functions/run", {"image": "debian:14"})
        assert (status, other["revision"], other["image"]) == (200, 5, "debian:14")
        assert (other["memory"], other["cpu"]) == (64, 2)
        assert (await room.ask("PATCH", "/functions/run", {"image": "debian:14"}))[1] == other
        assert (await room.ask("GET", "/runtimes"))[1] == []
        assert (await room.ask("GET", "/functions"))[1] == ["run"]
        assert (await room.ask("GET", "/functions/run/package"))[0] == 404
        # Code under the same name, and back again.
        await room.register("run")
        assert (await room.ask("GET", "/functions/run"))[1]["image"] is None
        status, back, _ = await room.ask("POST", URL, body)
        assert (status, back["image"], back["package"]) == (200, "debian:12", None)
        assert (await room.ask("DELETE", "/functions/run"))[0] == 204


async def test_settings_of_code_are_refused_and_named() -> None:
    async with open_room() as room:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({}, "image"), ({"image": ""}, "image"), ({"image": 1}, "image"),
            ({"image": "x", "entry": "a.b"}, "entry"), ({"image": "x", "run": "x"}, "run"),
            ({"image": "x", "isolation": "fork"}, "isolation"),
            ({"image": "x", "minWarm": 1}, "minWarm"), ({"image": "x", "idle": 1}, "idle"),
            ({"image": "x", "preload": "none"}, "preload"),
        ]  # fmt: skip
        for body, named in wrong:
            status, answer, _ = await room.ask("POST", URL, body)
            assert (status, answer["error"]["code"]) == (400, "bad_request"), body
            assert named in answer["error"]["message"]
        assert (await room.ask("POST", URL, {"image": "x"}))[0] == 201
        await room.register("code")
        status, answer, _ = await room.ask("PATCH", "/functions/code", {"image": "y"})
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert "it is code" in answer["error"]["message"]
        for empty in ("", None):
            assert (await room.ask("PATCH", "/functions/run", {"image": empty}))[0] == 400
        for patch, named in (
            ({"entry": "a.b"}, "entry"), ({"run": "x"}, "run"), ({"minWarm": 2}, "minWarm"),
        ):  # fmt: skip
            status, answer, _ = await room.ask("PATCH", "/functions/run", patch)
            assert (status, answer["error"]["code"]) == (400, "bad_request")
            assert named in answer["error"]["message"]
            assert "image" in answer["error"]["message"]


async def test_an_image_that_serves_has_settings_of_its_own() -> None:
    async with open_room() as room:
        for alone in ({"concurrency": 2}, {"port": 80}, {"maxWarm": 1}):
            status, answer, _ = await room.ask("POST", URL, {"image": "x", **alone})
            assert status == 400
            assert next(iter(alone)) in answer["error"]["message"]
            assert '"contract": "http"' in answer["error"]["hint"]
        body = {"image": "x", "contract": "http", "concurrency": 8, "port": 80, "minWarm": 1}
        status, made, _ = await room.ask("POST", URL, body)
        assert (status, made["contract"], made["concurrency"], made["port"]) == (
            201, "http", 8, 80,
        )  # fmt: skip
        for wrong in (
            {"maxConcurrency": 1 << 70},
            {"concurrency": 0},
            {"concurrency": 501},
            {"port": 65536},
        ):
            assert (await room.ask("POST", URL, {**body, **wrong}))[0] == 400
        status, changed, _ = await room.ask("PATCH", "/functions/run", {"port": None})
        assert (status, changed["port"], changed["concurrency"]) == (200, 8080, 8)
        # What no program can be given, a server can be sent.
        worker = await room.worker(sandbox="docker")
        call = {"funcName": "run", "params": ["a\0b"]}
        assert (await room.ask("POST", "/invokeFunction", call))[0] == 202
        del worker
        # And as a program again it has none of these.
        assert (await room.ask("POST", URL, {"image": "x"}))[1]["concurrency"] == 1


async def test_code_serves_where_its_runtime_says_so() -> None:
    async with open_room() as room:
        await room.register("code")
        path = "/functions/code"
        status, answer, _ = await room.ask("PATCH", path, {"concurrency": 2})
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert "its contract is agent" in answer["error"]["message"]
        runtime = (await room.ask("GET", "/functions/code"))[1]["runtimeName"]
        body = {"name": runtime, "image": "py", "path": "/ws", "contract": "http"}
        assert (await room.ask("POST", "/registerRuntime", body))[0] == 200
        assert (await room.ask("PATCH", path, {"concurrency": 2}))[0] == 200
        for name, value in (("entry", "a.b"), ("isolation", "fork")):
            status, answer, _ = await room.ask("PATCH", path, {name: value})
            assert (status, name in answer["error"]["message"]) == (400, True), answer
        # Only containers serve.
        worker = await room.worker()
        call = {"funcName": "code", "params": {}}
        status, answer, _ = await room.ask("POST", "/invokeFunction", call)
        assert (status, answer["error"]["code"]) == (503, "no_worker")
        del worker


async def test_params_that_no_program_can_be_given_are_refused() -> None:
    async with open_room() as room:
        await room.ask("POST", URL, {"image": "x"})
        worker = await room.worker(sandbox="docker")
        for params in ('"', ["a\0b"], ["x" * (128 << 10)]):
            body = {"funcName": "run", "params": params}
            status, answer, _ = await room.ask("POST", "/invokeFunction", body)
            assert (status, answer["error"]["code"]) == (400, "bad_request"), answer
            assert answer["error"]["hint"]
        body = {"funcName": "run", "params": ["ls"]}
        status, call, _ = await room.ask("POST", "/invokeFunction", body)
        assert (status, call["runtimeName"], call["revision"]) == (202, "image", 1)
        del worker


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"{}", ()), (b" { } ", ()), (b"null", ()), (b"[]", ()), (b'""', ()), (b"7", ("7",)),
        (b"true", ("true",)), (b'{"a": [1]}', ('{"a": [1]}',)),
        (b'["a b", "", 1, 1e400, null]', ("a b", "", "1", "1e400", "null")),
        (b'"a \'b c\' \\"d\\" e\\\\ f $X"', ("a", "b c", "d", "e f", "$X")),
        (b'["\\u00e9"]', ("\u00e9",)),
    ],
)  # fmt: skip
def test_params_become_arguments(params: bytes, expected: tuple[str, ...]) -> None:
    assert images.arguments(params) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_a_list_of_texts_is_the_arguments(texts: list[str]) -> None:
    assert images.arguments(to_json(texts)) == tuple(texts)


TOO_LONG = to_json(["x" * (128 << 10)])
TOO_MANY = to_json(["x" * 100_000] * 11)


@pytest.mark.parametrize("params", [b'"\'"', b'"a\\u0000"', b'["\\ud800"]', TOO_LONG, TOO_MANY])
def test_what_is_no_argument_is_refused_with_a_hint(params: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        images.arguments(params)
    assert caught.value.hint
