"""Images by way of a registry: nodes pull them, the command line makes and pushes them."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skep import Call, Client
from tests import engine
from tests.conftest import children, eventually
from tests.e2e.harness import RUNTIME, Up, assert_gone, environment, up
from tests.registry import PASSWORD, Registry, registry, slowly

pytestmark = [pytest.mark.docker, pytest.mark.timeout(500)]
LIMIT_S = 120
LARGE_BYTES = 4_000_000
#: Without anything to install, unless a test says so.
PYTHON = {**RUNTIME, "dependencies": ""}
CODE = """
import os

def main(name):
    return {'hello': name, 'env': os.environ.get('WORD')}
"""


@pytest.fixture(autouse=True)
def nothing_outlives() -> None:
    """Let the module's skep live from test to test; its own end proves that all went."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[Registry]:
    engine.python_image()
    with registry(folder) as found:
        yield found


@pytest.fixture(scope="module")
def slow(hub: Registry) -> Iterator[str]:
    """Return an address at which the registry is slow."""
    with slowly(hub.host, 2 << 20) as host:
        yield host


@pytest.fixture(scope="module")
def hive(folder: Path, hub: Registry, slow: str) -> Iterator[Up]:
    before = children()
    with pytest.MonkeyPatch.context() as patch:
        # As after docker login, for the workers and for who pushes.
        patch.setenv("DOCKER_CONFIG", str(hub.credentials(PASSWORD, slow)))
        with up(folder / "data", "--sandbox", "docker") as running:
            with running.client() as client:
                client.register_runtime({**PYTHON, "image": engine.PYTHON_IMAGE})
                client.register_function(
                    PYTHON["name"], "hello", package(folder, CODE), entry="hello.main"
                )
            yield running
    assert_gone(folder / "data", before)


@pytest.fixture
def made() -> Iterator[list[str]]:
    """Remove the images that a test has made or had pulled."""
    names: list[str] = []
    yield names
    for name in names:
        subprocess.run(
            ["docker", "image", "rm", "--force", name], capture_output=True, check=False
        )


def package(folder: Path, code: str, **more: str) -> Path:
    source = folder / secrets.token_hex(4)
    source.mkdir()
    for name, text in {"hello.py": code, **more}.items():
        (source / name.replace("_txt", ".txt")).write_text(text)
    path = source.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for file in source.iterdir():
            archive.add(file, file.name)
    return path


def large(made: list[str]) -> str:
    """Make an image of the runtime with four megabytes that nobody else has."""
    tag = f"skep-test/large-{secrets.token_hex(4)}"
    more = f"USER 0\nRUN head -c {LARGE_BYTES} /dev/urandom >/big\nUSER 65532\n"
    text = f"FROM {engine.PYTHON_IMAGE}\n{more}"
    build = ["docker", "build", "--quiet", "--no-cache", "--network", "none", "--tag", tag, "-"]
    subprocess.run(build, input=text, text=True, capture_output=True, check=True)
    made.append(tag)
    return tag


def skep(hive: Up, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may take minutes."""
    command = [sys.executable, "-P", "-m", "cli", *words]
    return subprocess.run(
        command, env={**environment(), "SKEP_URL": hive.url},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def image_of(hive: Up, call: Call) -> list[str]:
    """Return the images of the containers of a call's function."""
    installation = (hive.data / "installation").read_text()
    label = f"skep.miniworker={call['miniworker']}"
    found = engine.containers(installation, label)
    return [engine.docker("inspect", "--format", "{{.Config.Image}}", one) for one in found]


def log_of(hive: Up) -> str:
    return "".join(path.read_text() for path in (hive.data / "logs").glob("*.log"))


def why(client: Client, call: Call) -> str:
    attempts: Any = client.call(call["callNum"])["attempts"]
    return " ".join(one["why"] for one in attempts)


def test_an_image_is_pulled_once_however_many_wait_and_others_go_on(
    hive: Up, hub: Registry, slow: str, made: list[str], folder: Path
) -> None:
    name, tag = hub.name("large"), large(made)
    hub.push(tag, name)
    engine.docker("image", "rm", tag)
    there = name.replace(hub.host, slow)
    made.append(there)
    with hive.client() as client:
        client.register_runtime({**PYTHON, "name": "large", "image": there})
        client.register_function("large", "far", package(folder, CODE), entry="hello.main")
        calls = [client.submit_call("far", {"name": "x"}) for _ in range(3)]
        eventually(
            lambda: any(f"pulling {there}: " in why(client, call) for call in calls),
            LIMIT_S, "a call says how far its image is",
        )  # fmt: skip
        assert client.submit_call("hello", {"name": "y"}, wait=LIMIT_S)["status"] == "DONE"
        ended = [client.call(call["callNum"], wait=LIMIT_S) for call in calls]
        assert [call["status"] for call in ended] == ["DONE"] * 3, ended
        assert max(call["stages"].get("pull", 0) for call in ended) > 0
        assert not any("pulling" in why(client, call) for call in ended)
    assert log_of(hive).count(f"the image {there} is here") == 1


def test_an_image_that_cannot_be_had_ends_its_calls_with_the_reason(
    hive: Up, hub: Registry
) -> None:
    wrong = {"away": "127.0.0.1:1/none:1", "nothing": hub.name("nothing")}
    says = {"away": "does not answer", "nothing": "has no such image"}
    with hive.client() as client:
        for name, image in wrong.items():
            client.register_image(name, image)
        calls = {name: client.submit_call(name, []) for name in wrong}
        for name, call in calls.items():
            ended = client.call(call["callNum"], wait=LIMIT_S)
            assert ended["status"] == "FAILED"
            assert ended["reason"] is not None
            assert ended["reason"]["code"] == "image_unavailable"
            assert says[name] in ended["reason"]["message"]
        assert [worker["state"] for worker in client.workers()] == ["up"]


def test_a_runtime_and_a_function_that_were_pushed_are_got_by_nodes(
    hive: Up, hub: Registry, made: list[str], folder: Path
) -> None:
    unpushed = skep(hive, "runtime", "push", PYTHON["name"])
    assert unpushed.returncode == 2
    assert "names no registry" in unpushed.stderr
    tag = f"skep:mine-{secrets.token_hex(4)}"
    engine.docker("tag", engine.PYTHON_IMAGE, tag)
    with hive.client() as client:
        client.register_runtime({**PYTHON, "name": "mine", "image": tag})
        client.register_function("mine", "pushed", package(folder, CODE), entry="hello.main")
        done = skep(hive, "runtime", "push", "mine", "--registry", hub.host)
        assert (done.returncode, done.stdout) == (0, f"{hub.host}/{tag}\n"), done.stderr
        assert client.runtime("mine")["image"] == f"{hub.host}/{tag}"
        engine.docker("image", "rm", tag, f"{hub.host}/{tag}")
        made.append(f"{hub.host}/{tag}")
        call = client.submit_call("pushed", {"name": "x"}, wait=LIMIT_S)
        assert call["status"] == "DONE", call["reason"]
        assert image_of(hive, call) == [f"{hub.host}/{tag}"]

        client.register_image("plain", engine.base_image(), timeout=20.0, env={"A": "b"})
        name = hub.name("plain")
        made.append(name)
        done = skep(hive, "function", "push", "plain", "--tag", name)
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
        pushed = client.get_function("plain")
        assert (pushed["image"], pushed["timeout"], pushed["env"]) == (name, 20.0, {"A": "b"})
        # What only a server has stays, too.
        served: Any = {"contract": "http", "concurrency": 3, "minWarm": 0, "idle": 9.0}
        client.register_image("served", engine.base_image(), **served)
        done = skep(hive, "function", "push", "served", "--tag", name)
        assert done.returncode == 0, done.stderr
        found: Any = client.get_function("served")
        assert {key: found[key] for key in served} == served
        assert (found["image"], found["revision"]) == (name, 2)
        nothing = skep(hive, "function", "push", "hello", "--registry", hub.host)
        assert nothing.returncode == 2
        assert "skep function build hello" in nothing.stderr
        away = skep(hive, "function", "push", "plain", "--registry", "127.0.0.1:1")
        assert away.returncode != 0
        assert "was not pushed" in away.stderr


def test_a_function_is_baked_runs_where_no_skep_is_and_is_started_by_nodes(
    hive: Up, hub: Registry, made: list[str], folder: Path
) -> None:
    tag = hub.name("baked")
    made.append(tag)
    runtime = {
        **PYTHON,
        "name": "baker",
        "dependencies": "echo more >made.txt; test -n $PIP_INDEX_URL",
    }
    with hive.client() as client:
        client.register_runtime({**runtime, "image": engine.PYTHON_IMAGE})
        client.register_function(
            "baker", "baked", package(folder, CODE), entry="hello.main", env={"WORD": "w"}
        )
        secret = ("--build-env", "PIP_INDEX_URL=https://ada:s3cret@index.example/simple")
        done = skep(hive, "function", "build", "baked", "--tag", tag, "--push", *secret)
        assert (done.returncode, done.stdout) == (0, f"{tag}\n"), done.stderr
        assert "docker run --env says WORD" in done.stderr
        # Neither a name nor a history says what it was installed with, and no cache has it.
        assert "s3cret" not in engine.docker("history", "--no-trunc", tag)
        assert engine.docker("images", "--quiet", "--filter", "label=skep.stage") == ""
        run_alone(tag)
        # From the registry alone, and without anything installed on the node.
        engine.docker("image", "rm", tag)
        client.update_function("baked", preload="image")
        call = client.submit_call("baked", {"name": "Ada"}, wait=LIMIT_S)
        assert call["status"] == "DONE", call["reason"]
        assert json.loads(call["result"]) == {"hello": "Ada", "env": "w"}
        assert image_of(hive, call) == [tag]
        assert {"install", "fetch"}.isdisjoint(call["stages"]), call["stages"]
        assert "pull" in call["stages"]
        # Other settings are no other image, other code is.
        client.update_function("baked", timeout=9.0, env={"WORD": "v"})
        call = client.submit_call("baked", {"name": "Bob"}, wait=LIMIT_S)
        assert json.loads(call["result"]) == {"hello": "Bob", "env": "v"}
        assert image_of(hive, call) == [tag]
        client.update_function("baked", package(folder, CODE.replace("hello'", "bye'")))
        call = client.submit_call("baked", {"name": "Eve"}, wait=LIMIT_S)
        assert json.loads(call["result"]) == {"bye": "Eve", "env": "v"}
        assert image_of(hive, call) == [engine.PYTHON_IMAGE]
    assert "is not what would be baked" in log_of(hive)


def run_alone(tag: str) -> None:
    """Run an image as anybody would, once and over HTTP, without a network and as nobody."""
    given = '{"name": "Ada"}'
    once = engine.docker("run", "--rm", "--network", "none", "--env", "WORD=x", tag, given)
    assert json.loads(once) == {"hello": "Ada", "env": "x"}
    served = engine.docker("run", "--detach", "--publish", "127.0.0.1:0:5000", tag)
    try:
        host = engine.docker("port", served, "5000").splitlines()[0]

        def answers() -> bool:
            try:
                return httpx.get(f"http://{host}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(answers, LIMIT_S, "it serves")
        looked = "id -u; cat /ws/made.txt; ls -A /opt"
        said = engine.docker("exec", served, "sh", "-c", looked)
        assert said.split() == ["65532", "more", "skep"]
        answer = httpx.post(f"http://{host}/", content=given, timeout=30)
        assert answer.json() == {"hello": "Ada", "env": None}
    finally:
        engine.docker("rm", "--force", served)
