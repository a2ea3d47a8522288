"""What ``skep function register`` and ``update`` send, and what they say of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.scripted import Script, run


def test_a_function_is_uploaded_with_its_settings(server: Script, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"bytes")
    server.answers += [(201, {"functionName": "f", "revision": 1})]
    options = ("--runtime", "rt:1", "--timeout", "9", "--idempotent", "--url", server.url)
    done = run("function", "register", "f", str(archive), *options)
    assert (done.exit_code, done.stdout) == (0, "f\n")
    _, path, headers, body = server.asked[0]
    assert path == "/registerFunction/rt%3A1/f?prepare=true"
    assert headers["Accept"] == "application/x-ndjson"
    assert b'name="module"; filename="a.zip"' in body
    assert b'name="timeout"\r\n\r\n9.0' in body
    assert b'name="idempotent"\r\n\r\ntrue' in body


def test_the_installer_is_heard_while_it_runs_and_its_failure_told(
    server: Script, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text("")
    error = {"code": "install_failed", "message": "no such thing", "hint": "mend it"}
    said = [
        {"log": "Collecting a\nInstalling a"},
        {"log": "half"},
        {"status": 400, "error": error},
    ]
    server.answers += [(200, "".join(json.dumps(one) + "\n" for one in said).encode())]
    server.type = "application/x-ndjson"
    options = ("--runtime", "r", "--url", server.url)
    done = run("function", "register", "f", str(tmp_path), *options)
    assert (done.exit_code, done.stdout) == (2, "")
    first, *lines = done.stderr.splitlines()
    assert first.startswith("1 file, 0 B, packed ")
    assert lines == [
        "  | Collecting a", "  | Installing a", "  | half",
        "error: no such thing [install_failed]", "hint:  mend it",
    ]  # fmt: skip
    server.answers += [(201, {"functionName": "f", "revision": 1})]
    run("function", "register", "f", str(tmp_path), "--no-prepare", *options)
    assert server.asked[1][1] == "/registerFunction/r/f"


def test_an_image_is_named_and_nothing_is_uploaded(server: Script, tmp_path: Path) -> None:
    server.answers += [(201, {"functionName": "f", "revision": 1})]
    options = ("--image", "debian:12", "--timeout", "9", "--url", server.url)
    done = run("function", "register", "f", *options)
    assert (done.exit_code, done.stdout) == (0, "f\n")
    method, path, _, body = server.asked[0]
    assert (method, path) == ("POST", "/registerFunction/image/f")
    assert json.loads(body) == {"image": "debian:12", "timeout": 9}
    for wrong, words in (
        (("f", str(tmp_path), *options), "leave out"),
        (("f", "--url", server.url), "--image NAME:TAG"),
    ):
        done = run("function", "register", *wrong)
        assert done.exit_code == 2
        assert words in done.stderr
    assert len(server.asked) == 1


def test_a_function_is_changed_by_what_is_named_and_set_back_by_unset(server: Script) -> None:
    changed = {"functionName": "f", "revision": 2}
    server.answers += [(200, {"env": {"A": "1"}}), (200, changed)]
    options = ("--env", "B=2", "--cpu", "0.5", "--unset", "maxWait", "--url", server.url)
    assert run("function", "update", "f", *options).stdout == "f\n"
    method, path, _, body = server.asked[1]
    assert (method, path) == ("PATCH", "/functions/f?prepare=true")
    assert json.loads(body) == {"env": {"A": "1", "B": "2"}, "cpu": 0.5, "maxWait": None}
    server.answers += [(200, changed)]
    assert run("function", "update", "f", "--image", "a:2", "--url", server.url).exit_code == 0
    assert json.loads(server.asked[2][3]) == {"image": "a:2"}
    nothing = run("function", "update", "f", "--url", server.url)
    assert (nothing.exit_code, "change what?" in nothing.stderr) == (2, True)
    both = run("function", "update", "f", "--timeout", "3", "--unset", "timeout")
    assert (both.exit_code, "both given and unset" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("runtime", "hint"),
    [
        ("pythonruntime", "skep comes with it: skep runtime register python"),
        ("node", "it is called noderuntime: skep runtime register node"),
    ],
)
def test_a_runtime_that_skep_comes_with_is_named_if_it_is_not_registered(
    server: Script, tmp_path: Path, runtime: str, hint: str
) -> None:
    (tmp_path / "main.py").write_text("")
    error = {"error": {"code": "unknown_runtime", "message": "no", "hint": "GET /runtimes"}}
    server.answers += [(404, error), (200, [])]
    options = ("--runtime", runtime, "--url", server.url)
    done = run("function", "register", "f", str(tmp_path), *options)
    assert f"hint:  {hint}" in done.stderr
    none = run("function", "register", "f", str(tmp_path), "--url", server.url)
    assert (none.exit_code, "which runtime?" in none.stderr) == (2, True)


def test_a_refused_package_is_an_error_of_skep_in_json_too(tmp_path: Path) -> None:
    done = run("function", "register", "f", str(tmp_path), "--runtime", "r", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stderr)["error"]["code"] == "bad_folder"


@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b"])
def test_a_new_function_needs_a_name_that_can_be_one(name: str, tmp_path: Path) -> None:
    done = run("function", "new", "-o", str(tmp_path / "x"), "--", name)
    assert (done.exit_code, "is no name" in done.stderr) == (2, True)
    assert not (tmp_path / "x").exists()
