"""Installing dependencies as a user meets it: a whole skep, pip, and a private index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.e2e.harness import Up, up
from tests.index import Index, certificate, index
from tests.packing import zipped

NDJSON = {"Accept": "application/x-ndjson"}
CODE = "import tiny, sys; print(tiny.VALUE)"
GATED = "echo one; until [ -e go ]; do sleep 0.02; done; echo two >&2; exit 3"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Index, httpx.Client]]:
    """A skep whose builds know a private index only, by its own authority."""
    folder = tmp_path_factory.mktemp("deps")
    cert = certificate(folder)
    with index(cert, "ada", "s3cret") as at:
        at.add("tiny", "1.0", {"tiny.py": "VALUE = 42"})
        options = ["--index-url", at.url, "--ca-bundle", str(cert[0])]
        options += ["--build-env", "PIP_RETRIES=0", "--build-env", "PIP_FIND_LINKS="]
        with (
            up(folder / "data", *options) as running,
            httpx.Client(base_url=running.url, timeout=40, trust_env=False) as http,
        ):
            runtime(http, "python", "pip3 install -r requirements.txt")
            yield running, at, http


@pytest.fixture(autouse=True)
def nothing_outlives() -> None:
    """Let the module's skep live from test to test; its own end is looked at elsewhere."""


def runtime(http: httpx.Client, name: str, dependencies: str) -> None:
    body = {"name": name, "image": name, "path": "/ws", "run": "python3 test.py"}
    answer = http.post("/registerRuntime", json={**body, "dependencies": dependencies})
    assert answer.status_code in (200, 201), answer.text


def package(requirements: str = "tiny==1.0", code: str = CODE) -> dict[str, Any]:
    return {"module": ("p.zip", zipped({"test.py": code, "requirements.txt": requirements}))}


def invoke(http: httpx.Client, name: str) -> dict[str, Any]:
    answer = http.post("/invokeFunction?wait=30", json={"funcName": name})
    record: dict[str, Any] = answer.json()
    return record


def test_registered_with_its_dependencies_and_reused_by_the_next(
    site: tuple[Up, Index, httpx.Client],
) -> None:
    _, at, http = site
    url = "/registerFunction/python/one?prepare=true"
    with http.stream("POST", url, files=package(), headers=NDJSON) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    text = "".join(line["log"] for line in lines[:-1])
    assert "Successfully installed tiny-1.0" in text
    assert lines[-1]["status"] == 201
    assert lines[-1]["function"]["revision"] == 1
    assert at.downloads() == ["tiny-1.0-py3-none-any.whl"]
    assert invoke(http, "one")["result"] == "42"
    plain = http.post(
        "/registerFunction/python/two?prepare=true", files=package(code=CODE + "\nprint(2)")
    )
    assert plain.status_code == 201
    assert invoke(http, "two")["result"] == "42\n2"
    assert at.downloads() == ["tiny-1.0-py3-none-any.whl"]


def test_a_failure_is_told_at_registration_and_in_the_call(
    site: tuple[Up, Index, httpx.Client],
) -> None:
    running, _, http = site
    wrong = package("tiny==9.9")
    refused = http.post("/registerFunction/python/wrong?prepare=true", files=wrong)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "install_failed"
    assert "`pip3 install -r requirements.txt`: it exited with the code 1" in error["message"]
    assert "No matching distribution found for tiny==9.9" in error["message"]
    assert "wrong" not in http.get("/functions").json()
    assert http.post("/registerFunction/python/wrong", files=wrong).status_code == 201
    record = invoke(http, "wrong")
    assert (record["status"], record["reason"]["code"]) == ("FAILED", "install_failed")
    assert record["reason"]["message"] == error["message"]
    logs = http.get(f"/call/{record['callNum']}/logs").text
    assert "Looking in indexes: https://***@127.0.0.1" in logs
    assert "No matching distribution found for tiny==9.9" in logs
    kept = [p.read_bytes() for p in running.data.rglob("*") if p.is_file()]
    assert not any(b"s3cret" in content for content in kept)
    assert "s3cret" not in json.dumps(record) + logs + refused.text


def test_output_arrives_while_the_installer_runs(
    site: tuple[Up, Index, httpx.Client],
) -> None:
    running, _, http = site
    runtime(http, "slow", GATED)
    url = "/registerFunction/slow/slow?prepare=true"
    bundles = running.data / "nodes/node1/bundles"
    before = set(bundles.iterdir())
    with http.stream("POST", url, files=package(), headers=NDJSON) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)) == {"log": "one\n"}
        made = eventually(lambda: set(bundles.iterdir()) - before)
        made.pop().joinpath("go").touch()
        assert json.loads(next(lines)) == {"log": "two\n"}
        last = json.loads(next(lines))
    assert last["status"] == 400
    assert last["error"]["message"].endswith(
        "it exited with the code 3; its last lines:\none\ntwo"
    )
    assert set(bundles.iterdir()) == before
