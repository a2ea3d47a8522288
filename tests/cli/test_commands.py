"""The thin commands and the client against a scripted HTTP server; errors before any start."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from skep import Client, NotReachable, SkepError

DONE = {"funcName": "f", "params": {}, "callNum": 7, "status": "DONE", "result": "[1]",
        "reason": None}  # fmt: skip
PENDING = {**DONE, "status": "PENDING", "result": ""}
FAILED = {
    **DONE,
    "status": "FAILED",
    "result": "",
    "reason": {"code": "raised", "message": "no"},
}


@dataclass
class Script:
    """What the server answers, first to last, and what it was asked."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.asked.append((self.command, self.path, dict(self.headers), body))
            status, answer = script.answers.pop(0)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{httpd.server_port}"
        yield script
        httpd.shutdown()
        thread.join()


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_invoke_prints_the_bare_result_and_nothing_else_on_stdout(server: Script) -> None:
    server.answers += [(202, PENDING), (202, PENDING), (200, DONE)]
    result = run("invoke", "f", '{"a": 1}', "--timeout", "9", SKEP_URL=server.url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "[1]\n", "")
    assert json.loads(server.asked[0][3]) == {"funcName": "f", "params": {"a": 1}, "timeout": 9}
    assert server.asked[1][1] == "/call/7?wait=60.000"


def test_invoke_async_prints_the_number(server: Script) -> None:
    server.answers += [(202, PENDING)]
    assert run("invoke", "f", "--async", "--url", server.url).stdout == "7\n"


def test_a_call_that_did_not_end_done_is_status_1(server: Script) -> None:
    server.answers += [(202, FAILED)]
    result = run("invoke", "f", "--url", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "call 7 ended FAILED: no [raised]" in result.stderr


def test_waiting_ends_when_the_user_said(server: Script) -> None:
    server.answers += [(202, PENDING)]
    result = run("invoke", "f", "--wait", "0", "--url", server.url)
    assert result.exit_code == 1
    assert "call 7 is PENDING" in result.stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "unknown_function", 2), (429, "queue_full", 3), (503, "no_worker", 3)],
)
def test_errors_show_message_and_hint(
    server: Script, status: int, code: str, exit_code: int
) -> None:
    error = {"error": {"code": code, "message": "it is so", "hint": "do that"}}
    server.answers += [(status, error), (status, error)]
    result = run("--url", server.url, "invoke", "f")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == f"error: it is so [{code}]\nhint:  do that\n"
    assert json.loads(run("--url", server.url, "invoke", "f", "--json").stderr) == error


def test_nobody_there_is_status_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    result = run("function", "list", "--url", url)
    assert result.exit_code == 3
    assert "skep up" in result.stderr


def test_url_and_json_stand_before_or_after_and_after_wins(server: Script) -> None:
    server.answers += [(200, ["a", "b"])] * 5
    nowhere = "http://127.0.0.1:9"
    for arguments in (
        ("--url", server.url, "--json", "runtime", "list"),
        ("--url", nowhere, "runtime", "list", "--url", server.url, "--json"),
        ("--json", "runtime", "list", "--url", server.url),
        ("runtime", "--url", server.url, "--json", "list"),
    ):
        assert json.loads(run(*arguments, SKEP_URL=nowhere).stdout) == ["a", "b"]
    assert run("runtime", "list", SKEP_URL=server.url).stdout == "a\nb\n"


def test_a_token_travels_as_bearer(server: Script) -> None:
    server.answers += [(200, [])]
    run("worker", "list", SKEP_URL=server.url, SKEP_TOKEN="secret")
    assert server.asked[0][2]["Authorization"] == "Bearer secret"


def test_logs_show_and_cancel(server: Script) -> None:
    logs = {"stdout": "out\n", "stderr": "err\n", "omitted": 5}
    server.answers += [(200, logs), (200, DONE), (202, PENDING)]
    result = run("call", "logs", "7", "--url", server.url)
    assert result.stdout == "out\n"
    assert result.stderr == "err\n(5 bytes of the middle are left out)\n"
    assert "status           DONE" in run("call", "show", "7", "--url", server.url).stdout
    assert run("call", "cancel", "7", "--url", server.url).stdout == "PENDING\n"


def test_a_runtime_is_registered_by_the_name_of_a_shipped_one(server: Script) -> None:
    server.answers += [(201, {"name": "pythonruntime", "revision": 1})]
    result = run("runtime", "register", "python", "--url", server.url)
    assert (result.stdout, result.stderr) == (
        "pythonruntime\n",
        "runtime pythonruntime, revision 1\n",
    )
    assert json.loads(server.asked[0][3])["run"] == "python3 test.py"
    wrong = run("runtime", "register", "nowhere", "--url", server.url)
    assert wrong.exit_code == 2
    assert "python" in wrong.stderr


def test_a_function_is_uploaded_with_its_settings(server: Script, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"bytes")
    server.answers += [(201, {"functionName": "f", "revision": 1})]
    options = ("--timeout", "9", "--idempotent", "--url", server.url)
    assert run("function", "register", "rt:1", "f", str(archive), *options).exit_code == 0
    _, path, _, body = server.asked[0]
    assert path == "/registerFunction/rt%3A1/f"
    assert b'name="module"; filename="a.zip"' in body
    assert b'name="timeout"\r\n\r\n9.0' in body
    assert b'name="idempotent"\r\n\r\ntrue' in body


@pytest.mark.parametrize("params", ["{", "@/nowhere/at/all"])
def test_params_that_are_none_are_usage_errors(params: str) -> None:
    result = run("invoke", "f", params)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_stranger_who_answers_is_told_apart(server: Script) -> None:
    server.answers += [(502, b"<html>gateway"), (200, b"<html>welcome")]
    with Client(server.url) as client:
        for status in (502, 200):
            with pytest.raises(SkepError, match="not in the words of skep") as caught:
                client.runtimes()
            assert (caught.value.code, caught.value.status) == ("internal", status)


def test_the_client_finds_skep_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEP_URL", "http://127.0.0.1:9/")
    with Client() as client, pytest.raises(NotReachable) as caught:
        client.workers()
    assert caught.value.status == 0
    assert client.url == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--host", "0.0.0.0"), "--insecure"),
        (("--sandbox", "fake"), "--sandbox"),
        (("--workers", "0"), "--workers"),
    ],
)
def test_up_refuses_before_anything_starts(
    arguments: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    result = run("up", "--data", str(tmp_path / "data"), *arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert not (tmp_path / "data").exists()


def test_up_refuses_a_port_that_is_taken_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        result = run("up", "--data", str(tmp_path / "data"), SKEP_PORT=port)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
    assert not (tmp_path / "data").exists()
