"""The thin commands and the client against a scripted HTTP server; errors before any start."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cli.near import ELSEWHERE
from skep import Client, NotReachable, SkepError
from tests.cli.scripted import Script, run
from wire.process import release
from wire.releases import PROTOCOL

DONE = {"funcName": "f", "params": {}, "callNum": 7, "status": "DONE", "result": "[1]",
        "reason": None}  # fmt: skip
PENDING = {**DONE, "status": "PENDING", "result": ""}
FAILED = {
    **DONE,
    "status": "FAILED",
    "result": "",
    "reason": {"code": "raised", "message": "no"},
}


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
    server.answers += [(202, FAILED)]
    as_json = run("invoke", "f", "--url", server.url, "--json")
    assert (as_json.exit_code, as_json.stderr) == (1, "")
    assert json.loads(as_json.stdout) == FAILED


def test_a_reason_of_several_lines_keeps_them(server: Script) -> None:
    reason = {"code": "install_failed", "message": "no:\nERROR: a\x1b[2J\nERROR: b"}
    server.answers += [(202, {**FAILED, "reason": reason})]
    told = run("invoke", "f", "--url", server.url).stderr.splitlines()
    assert [line[:8] for line in told] == ["call 7 e", "ERROR: a", "ERROR: b", "hint:  s"]
    assert "\x1b" not in "".join(told)


def test_waiting_ends_when_the_user_said(server: Script) -> None:
    server.answers += [(202, PENDING)]
    result = run("invoke", "f", "--wait", "0", "--url", server.url)
    assert result.exit_code == 1
    assert "call 7 is PENDING" in result.stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "unknown_call", 2), (429, "queue_full", 3), (503, "no_worker", 3)],
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


@pytest.mark.parametrize(
    ("code", "here"),
    [("unknown_call", "skep call list"), ("bad_request", "call show --help"),
     ("unknown_runtime", "skep runtime register python")],
)  # fmt: skip
def test_hints_speak_of_commands_and_not_of_http(server: Script, code: str, here: str) -> None:
    said = {"code": code, "message": "no", "hint": "GET /calls lists them"}
    server.answers += [(404, {"error": said})]
    told = run("--url", server.url, "call", "show", "7").stderr
    assert here in told
    assert "GET /" not in told


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


def test_version_shows_every_process_and_why_one_is_refused(server: Script) -> None:
    own = {"release": "2.0", "protocol": 1}
    api = {"process": "api", "name": "api", **own, "state": "up", "reason": ""}
    dbnode = {"process": "dbnode", "name": "dbnode", "release": "", "protocol": 0,
              "state": "silent", "reason": "it does not answer"}  # fmt: skip
    worker = {"process": "worker", "name": "node2", "release": "3.0", "protocol": 2,
              "state": "refused", "reason": "it speaks 2"}  # fmt: skip
    answer = {**own, "processes": [api, dbnode, worker]}
    server.answers += [(200, answer), (200, answer)]
    shown = run("version", "--url", server.url)
    assert shown.stderr == f"skep {release()}, protocol version {PROTOCOL}\n"
    assert [line.split("\t") for line in shown.stdout.splitlines()] == [
        ["PROCESS", "NAME", "RELEASE", "PROTOCOL", "STATE", "REASON"],
        ["api", "api", "2.0", "1", "up", ""],
        ["dbnode", "dbnode", "?", "?", "silent", "it does not answer"],
        ["worker", "node2", "3.0", "2", "refused", "it speaks 2"],
    ]
    shown = run("version", "--url", server.url, "--json")
    client = {"release": release(), "protocol": PROTOCOL}
    assert (shown.stderr, json.loads(shown.stdout)) == ("", {"client": client, **answer})


def test_logs_show_and_cancel(server: Script) -> None:
    logs = {"stdout": "out\n", "stderr": "err\n", "omitted": 5}
    server.answers += [(200, logs), (200, DONE), (202, PENDING)]
    result = run("call", "logs", "7", "--url", server.url)
    assert result.stdout == "out\n"
    assert result.stderr == "err\n(5 bytes of the middle are left out)\n"
    assert "status           DONE" in run("call", "show", "7", "--url", server.url).stdout
    assert run("call", "cancel", "7", "--url", server.url).stdout == "PENDING\n"


def test_a_call_that_is_still_being_cancelled_says_so(server: Script) -> None:
    server.answers += [(202, {**PENDING, "status": "RUNNING"})]
    result = run("call", "cancel", "7", "--url", server.url)
    assert (result.exit_code, result.stdout) == (0, "RUNNING\n")
    assert "call 7 is being ended" in result.stderr


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


def test_bytes_that_are_no_text_come_out_as_they_are(server: Script) -> None:
    server.answers += [(200, {**DONE, "result": "AP8K", "resultEncoding": "base64"})]
    assert run("invoke", "f", "--url", server.url).stdout_bytes == b"\x00\xff\n"


def test_idempotency_key_and_revision_travel(server: Script) -> None:
    server.answers += [(200, DONE)]
    run("invoke", "f", "--revision", "3", "--idempotency-key", "k", "--url", server.url)
    assert server.asked[0][2]["Idempotency-Key"] == "k"
    assert json.loads(server.asked[0][3])["revision"] == 3


def test_what_a_function_sees_in_its_environment_changes_no_question(server: Script) -> None:
    server.answers += [(200, {}), (200, DONE)]
    run("call", "list", SKEP_URL=server.url, SKEP_FUNCTION="me", SKEP_REVISION="9")
    run("invoke", "f", SKEP_URL=server.url, SKEP_FUNCTION="me", SKEP_REVISION="9")
    assert server.asked[0][1] == "/calls?order=desc&limit=20"
    assert "revision" not in json.loads(server.asked[1][3])


def test_a_mistyped_command_is_answered_with_those_like_it() -> None:
    for words, meant in ((("invok",), "invoke"), (("function", "regster"), "register")):
        done = run(*words)
        assert (done.exit_code, meant in done.stderr) == (2, True)


@pytest.mark.parametrize(("word", "here"), ELSEWHERE.items())
def test_words_of_other_command_lines_lead_to_ours(word: str, here: str) -> None:
    done = run(word, "x")
    assert (done.exit_code, f"try: skep {here}" in done.stderr) == (2, True)
    assert run(*here.split(), "--help").exit_code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_for_skep(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_SKEP_COMPLETE" in script
    assert f"{shell}_complete" in script


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


@pytest.mark.parametrize(
    ("words", "meant"), [(("invok", "f"), "invoke"), (("runtime", "biuld"), "build")]
)
def test_a_mistyped_command_is_answered_with_the_one_like_it(
    words: tuple[str, ...], meant: str
) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr
