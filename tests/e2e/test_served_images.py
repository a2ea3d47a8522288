"""Images that serve HTTP as functions, from the command line to the container and back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skep import Call, Client
from tests import engine
from tests.cli.session import result, skep
from tests.conftest import eventually
from tests.e2e.harness import ROOT, Up, up

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter a container's network"),
]
HELLO = """
import threading
import time
import functions_framework

ALL = threading.Barrier(6)

@functions_framework.http
def hello(request):
    said = request.get_json()
    time.sleep(said.get("sleep", 0))
    if "meet" in said:
        ALL.wait(50)
    print("asked by", request.headers["X-Skep-Call"], flush=True)
    return {"hello": said["name"]}
"""
DOCKERFILE = re.compile(r"^```dockerfile\n# Dockerfile\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image around functions-framework, as docs/runtimes.md has it without a network."""
    folder = tmp_path_factory.mktemp("image")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    download += ["--dest", "wheels", "functions-framework"]
    ran = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(f"needs PyPI: {ran.stderr}")
    assert ran.returncode == 0, ran.stderr
    (folder / "main.py").write_text(HELLO)
    (dockerfile,) = DOCKERFILE.findall((ROOT / "docs" / "runtimes.md").read_text())
    (folder / "Dockerfile").write_text(dockerfile)
    options = "PIP_OPTIONS=--no-index --find-links wheels"
    given = (f"BASE={engine.python_image()}", options)
    with engine.built("functions-framework", str(folder), *given) as name:
        yield name


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All of skep, with two slots."""
    data = tmp_path_factory.mktemp("hive") / "data"
    with up(data, "--sandbox", "docker", "--slots", "2") as hive:
        yield hive
        installation = (hive.data / "installation").read_text()
    assert not engine.containers(installation)


@pytest.fixture
def client(hive: Up) -> Iterator[Client]:
    """A client; what its functions left warm is gone after the test."""
    with hive.client() as client:
        yield client
        for name in client.functions():
            client.delete_function(name)
        installation = (hive.data / "installation").read_text()
        eventually(lambda: not engine.containers(installation), what="all sandboxes gone")


def reason(call: Call) -> tuple[str, str]:
    assert call["reason"] is not None
    return call["reason"]["code"], call["reason"]["message"]


def test_an_image_of_a_stranger_is_a_function(hive: Up, client: Client, image: str) -> None:
    register = ("function", "register", "hello", "--image", image, "--contract", "http")
    result(hive, *register, "--timeout", "20", "--memory", "128")
    assert json.loads(result(hive, "invoke", "hello", "name=Ada")) == {"hello": "Ada"}
    (first,) = client.calls(function="hello")
    assert (first["start"], first["resultType"]) == ("cold", "json")
    assert {"sandbox", "load", "run"} <= first["stages"].keys()
    second = client.submit_call("hello", {"name": "Bo"}, wait=60)
    assert (second["start"], second["miniworker"]) == ("warm", first["miniworker"])
    assert client.logs(second["callNum"])["stdout"] == f"asked by {second['callNum']}\n"
    failed = client.submit_call("hello", {"no": "name"}, wait=60)
    assert failed["status"] == "FAILED"
    code, message = reason(failed)
    assert code == "http_status"
    assert message.startswith("it answered 500 INTERNAL SERVER ERROR")
    assert "KeyError" in client.logs(failed["callNum"])["stderr"]
    # The server has done with it: the next one is as warm.
    assert client.submit_call("hello", {"name": "Cy"}, wait=60)["start"] == "warm"
    late = client.submit_call("hello", {"name": "D", "sleep": 60}, wait=60, timeout=1.0)
    assert late["status"] == "TIMEOUT"
    after = client.submit_call("hello", {"name": "E"}, wait=60)
    assert (after["status"], after["start"]) == ("DONE", "cold")
    assert "a call was broken off in it" in after["attempts"][0]["why"]


def test_more_calls_than_slots_run_at_once_in_one_sandbox(
    hive: Up, client: Client, image: str
) -> None:
    client.register_image("crowd", image, contract="http", concurrency=6, timeout=60)
    first = client.submit_call("crowd", {"name": "first"}, wait=60)
    # Each is answered when all six are there.
    handles = [client.submit("crowd", name=str(n), meet=True) for n in range(6)]
    assert [one.result(timeout=60) for one in handles] == [{"hello": str(n)} for n in range(6)]
    calls = [client.call(one.number) for one in handles]
    assert {call["miniworker"] for call in calls} == {first["miniworker"]}
    beside = [call for call in calls if call["attempts"][-1].get("way") == "ahead"]
    assert beside
    assert "beside running ones" in beside[0]["attempts"][-1].get("why", "")
    changed = client.update_function("crowd", concurrency=2)
    assert (changed.get("concurrency"), changed.get("contract")) == (2, "http")
    refused = skep(hive, "function", "update", "crowd", "--run", "sh")
    assert refused.returncode == 2
    assert "it is an image" in refused.stderr


def test_uploaded_code_may_serve_too(hive: Up, client: Client, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "miniworker" / "server.py"
    (tmp_path / "server.py").write_text(source.read_text())
    runtime = {"name": "serving", "image": engine.python_image(), "path": "/srv"}
    client.register_runtime({**runtime, "run": "python3 server.py", "contract": "http"})
    register = ("function", "register", "served", str(tmp_path), "--runtime", "serving")
    result(hive, *register, "--concurrency", "2", "--port", "9000")
    seen = json.loads(result(hive, "invoke", "served", "do=see"))
    assert (seen["cwd"], seen["env"]["PORT"]) == ("/srv", "9000")
    refused = skep(hive, "function", "update", "served", "--entry", "server.main")
    assert refused.returncode == 2
    assert "run says how its server is started" in refused.stderr
