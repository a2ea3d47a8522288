"""The first process of a baked image, with the agent of each language, as a plain process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli import baking
from cli.function_build import ENTRY, _agent
from tests.conftest import children, eventually
from tests.runtimes.languages import LANGUAGES, PYTHON, Language
from wire.models import Function, Runtime, Spec

pytestmark = pytest.mark.skipif(not shutil.which("perl"), reason="there is no perl here")
HANDLED = [one for one in LANGUAGES if one.handlers]


def baked(folder: Path, language: Language, entry: str = "") -> Path:
    """Put together what an image has below /opt/skep; return the entry program."""
    parts, bundle, place = folder / "parts", folder / "bundle", folder / "ws"
    for one in (parts, bundle, place):
        one.mkdir()
    (bundle / language.test).write_text(language.script)
    if language.module:
        (bundle / language.module).write_text(language.handlers)
    spec = Spec(
        function=Function(function_name="f", runtime_name="r", entry=entry or None),
        runtime=Runtime(name="r", image="i", path="/ws", run=language.run),
    )
    said = json.loads(baking.init(baking.Recipe(spec)))
    said |= {"bundle": str(bundle), "path": str(place)}
    (parts / "init.json").write_text(msgspec.json.encode(said).decode())
    agent = parts / "agent"
    agent.write_text(baking.agent(_agent(language.name).read_text()))
    agent.chmod(0o755)
    return Path(shutil.copy(ENTRY, parts))


def environment(folder: Path, **more: str) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"], "HOME": str(temporary), "TMPDIR": str(temporary),
        "LANG": "C.UTF-8", "SKEP_FUNCTION": "f", "WORD": "wörd", **more,
    }  # fmt: skip


def once(
    folder: Path, program: Path, *words: str, given: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["perl", str(program), *words], env=environment(folder, **env),
        input=given, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    # Whom it killed may be on the way out for a moment more.
    eventually(lambda: not children(), 10, "nothing of it runs")
    return done


@pytest.fixture(params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    if not shutil.which(found.program):
        pytest.skip(f"this host has no {found.program}")
    return found


def test_it_prints_the_result_and_says_what_went_wrong(
    tmp_path: Path, language: Language
) -> None:
    program = baked(tmp_path, language)
    done = once(tmp_path, program, '{"do": "env"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "wörd f\n", "")
    piped = once(tmp_path, program, "-", given='{"do": "echo"}')
    assert (piped.returncode, json.loads(piped.stdout)) == (0, {"do": "echo"})
    failed = once(tmp_path, program, '{"do": "exit"}')
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "part\n" in failed.stderr
    assert "exit_code" in failed.stderr


@contextmanager
def serving(folder: Path, language: Language, entry: str = "", **env: str) -> Iterator[int]:
    program = baked(folder, language, entry)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            ["perl", str(program)], env=environment(folder, PORT=str(port), **env),
            stderr=printed, stdout=printed,
        )  # fmt: skip
    try:
        serves = "serving POST /"
        eventually(lambda: serves in (folder / "printed").read_text(), 40, serves)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not children(), 10, "nothing of it runs")


def ask(port: int, method: str, path: str, body: str = "") -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    try:
        connection.request(method, path, body.encode())
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Content-Type", "")
    finally:
        connection.close()


def post(port: int, body: str) -> tuple[int, Any, str]:
    status, content, kind = ask(port, "POST", "/", body)
    return status, json.loads(content), kind


@pytest.mark.parametrize("handled", HANDLED, ids=str)
def test_a_handler_is_loaded_once_and_served(tmp_path: Path, handled: Language) -> None:
    if not shutil.which(handled.program):
        pytest.skip(f"this host has no {handled.program}")
    with serving(tmp_path, handled, "hello.counts") as port:
        assert [post(port, "")[1] for _ in range(3)] == [1, 2, 3]
        # One that sends nothing holds nobody up; those that come at once have their turns.
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{")
            with ThreadPoolExecutor(8) as crowd:
                counts = crowd.map(lambda _: post(port, "{}")[1], range(8))
                assert sorted(counts) == list(range(4, 12))
        assert ask(port, "GET", "/healthz")[:2] == (200, b"ok\n")
        assert [ask(port, *one)[0] for one in (("GET", "/"), ("POST", "/x"))] == [405, 404]


@pytest.mark.parametrize("handled", HANDLED, ids=str)
def test_a_call_that_ends_badly_is_told_and_the_next_one_runs(
    tmp_path: Path, handled: Language
) -> None:
    if not shutil.which(handled.program):
        pytest.skip(f"this host has no {handled.program}")
    with serving(tmp_path, handled, "hello.fail") as port:
        for _ in range(2):
            status, answer, _ = post(port, "")
            assert (status, answer["error"]["code"]) == (500, "raised")
            assert "no dice" in answer["error"]["message"]
        assert "no dice" in (tmp_path / "printed").read_text()


def test_what_runs_too_long_or_kills_its_process_is_over_and_loaded_again(
    tmp_path: Path, language: Language
) -> None:
    with serving(tmp_path, language, SKEP_TIMEOUT="1.5") as port:
        status, answer, _ = post(port, '{"do": "wait"}')
        assert (status, answer["error"]["code"]) == (504, "timeout")
        assert "so far" in (tmp_path / "printed").read_text()
        status, answer, _ = post(port, '{"do": "die"}')
        assert (status, answer["error"]["code"]) == (500, "signal")
        assert ask(port, "POST", "/", '{"do": "env"}')[:2] == (200, "wörd f\n".encode())


def test_an_agent_that_dies_is_started_again(tmp_path: Path) -> None:
    with serving(tmp_path, PYTHON, "hello.counts") as port:
        assert post(port, "")[1] == 1
        # The server is of Perl, and what it serves here is of Python.
        agents = [pid for pid in children() if not cmdline(pid).startswith(b"perl\0")]
        assert agents
        os.kill(agents[0], signal.SIGKILL)
        # It may be found dead by this call, or just before it.
        eventually(partial(is_answered, port), 40, "the next agent")
        assert post(port, "")[1] >= 2


def is_answered(port: int) -> bool:
    """Return whether a call comes to its end; one whose agent dies may be hung up on."""
    try:
        return bool(post(port, "")[0] == 200)
    except ConnectionError:
        return False


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_code_that_cannot_be_loaded_ends_it_with_the_reason(tmp_path: Path) -> None:
    program = baked(tmp_path, PYTHON, "hello.no_such")
    for words in ((), ("{}",)):
        done = once(tmp_path, program, *words, PORT="0")
        assert done.returncode == 1
        assert "entry_not_found" in done.stderr


NO_JSON = ("{", '{"a":1,}', "[1 2]", '"\\x"', "01", "nul", '{"a"}', "[1]]", "{1: 2}", "[1,]")
#: What is no request, and how it is answered.
NO_REQUEST = (
    (b"nonsense\r\n\r\n", b"400"),
    (b"POST / HTTP/1.1\r\n\r\n", b"411"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
    (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b"413"),
    (b"GET /" + b"x" * 20_000, b"431"),
)
VALUES = (
    "1", "-1.5e3", '"é\\u00e9\\n"', "[[], {}, null]", ' {"a" : [ true , false ] } ',
    json.dumps(["x" * 200_000, list(range(70_000)), '"\\' * 70_000]), "[" * 200 + "]" * 200,
)  # fmt: skip


def test_all_json_is_taken_and_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, PYTHON, "hello.one") as port:
        for value in VALUES:
            # The one argument of a call is a list of one.
            status, answer, kind = post(port, f"[{value}]")
            assert (status, kind) == (200, "application/json"), answer
            assert answer == json.loads(value)
        for text in NO_JSON:
            status, answer, _ = post(port, text)
            assert (status, answer["error"]["code"]) == (400, "bad_request"), text
        for head, says in NO_REQUEST:
            with socket.create_connection(("127.0.0.1", port), 20) as wire:
                wire.sendall(head)
                assert wire.recv(12) == b"HTTP/1.1 " + says
        assert ask(port, "GET", "/healthz")[0] == 200
