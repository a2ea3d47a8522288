"""``skep doctor``: what works is seen working, what does not is named with its cure."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import checks
from cli.doctor import show
from cli.main import main

AWAY = "http://127.0.0.1:9"


class _Unix(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


@contextmanager
def engine(path: Path, answer: bytes) -> Iterator[str]:
    """An engine's socket that answers every question so; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with _Unix(str(path), Handler) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


@contextmanager
def program(
    folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A program that alone is on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    yield


def test_python_that_is_too_old_fails() -> None:
    assert checks.python("3.12.1").state == "ok"
    old = checks.python("3.9.2")
    assert (old.state, "3.11" in old.mend) == ("fail", True)


def test_docker_is_asked_not_only_looked_for(tmp_path: Path) -> None:
    with engine(tmp_path / "d.sock", b'{"Version": "27.1"}') as address:
        found = checks.docker({"DOCKER_HOST": address})
        assert (found.state, "engine 27.1" in found.found) == ("ok", True)
    with engine(tmp_path / "s.sock", b"<html>") as address:
        assert checks.docker({"DOCKER_HOST": address}).state == "warn"
    # The socket's file is there still, and nobody behind it.
    found = checks.docker({"DOCKER_HOST": f"unix://{tmp_path / 'd.sock'}"})
    assert (found.state, "refused" in found.found) == ("warn", True)
    assert "systemctl start docker" in found.mend
    assert checks.docker({"DOCKER_HOST": "ssh://far"}).state == "warn"


def test_bubblewrap_that_is_there_and_fails_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with program(tmp_path, "other", "", monkeypatch):
        missing = checks.bubblewrap()
    assert (missing.state, "install bubblewrap" in missing.mend) == ("warn", True)
    refuses = (
        '[ "$1" = --version ] && echo bubblewrap 1.0 || { echo no namespace >&2; exit 1; }'
    )
    with program(tmp_path, "bwrap", refuses, monkeypatch):
        broken = checks.bubblewrap()
    assert (broken.state, broken.found) == (
        "warn",
        "bubblewrap 1.0 is there and fails: no namespace",
    )
    with program(tmp_path, "bwrap", "echo bubblewrap 1.0", monkeypatch):
        assert checks.bubblewrap().state == "ok"


def test_pip_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with program(tmp_path, "pip3", "echo pip 24.0 from /somewhere", monkeypatch):
        assert checks.pip().found == f"pip 24.0 at {tmp_path / 'pip3'}"
    with program(tmp_path / "empty", "nothing", "", monkeypatch):
        missing = checks.pip()
    assert (missing.state, "python3-pip" in missing.mend) == ("warn", True)


def test_a_port_is_free_ours_or_anothers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        number = held.getsockname()[1]
        taken = checks.port("127.0.0.1", number, is_ours=False)
        assert (taken.state, "taken by another" in taken.found) == ("fail", True)
        assert str(number) in taken.mend
        assert checks.port("127.0.0.1", number, is_ours=True).state == "ok"
    assert checks.port("127.0.0.1", number, is_ours=False).state == "ok"


def test_the_disk_is_looked_at_where_the_folder_will_be(tmp_path: Path) -> None:
    found = checks.disk(tmp_path / "not" / "there")
    assert str(tmp_path) in found.found
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert checks.disk(tmp_path / "x").state == "fail"


def test_a_fail_is_exit_code_1_and_everything_has_a_word_and_a_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        held.settimeout(0.01)
        arguments = ["doctor", "--data", str(tmp_path), "--url", url]
        done = CliRunner().invoke(main, [*arguments, "--json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["ok"]) == (1, False)
    assert {one["state"] for one in answer["checks"]} <= {"ok", "warn", "fail"}
    assert all(one["mend"] for one in answer["checks"] if one["state"] != "ok")
    names = {one["check"] for one in answer["checks"]}
    assert {
        "Python",
        "bubblewrap",
        "user namespaces",
        "Docker",
        "pip",
        "disk",
        "versions",
    } <= names


def test_nothing_there_is_a_warning_and_fine(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["doctor", "--data", str(tmp_path), "--url", AWAY])
    assert done.exit_code == 0, done.stdout
    assert "warn  versions" in done.stdout
    assert "mend: skep up starts one here" in done.stdout


def test_findings_hang_in_their_column(capsys: pytest.CaptureFixture[str]) -> None:
    show([checks.Finding("thing", "fail", "word " * 40, "cure " * 40)], 60)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fail  thing")
    assert all(line.startswith(" " * 24) for line in lines[1:-2])
    assert all(len(line) <= 60 for line in lines)
    assert lines[-1] == "1 check: 0 ok, 0 warn, 1 fail"
