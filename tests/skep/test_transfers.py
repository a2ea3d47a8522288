"""Packages up and down: from the disk, to the disk, in bounded memory, whole or not at all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from skep import BadRequest, InstallFailed, NotReachable, SkepError, UnknownFunction
from tests.skep.both import Clock, made
from tests.skep.scripted import Cut, Pieces, Reset, Say, Script, error

FUNCTION = {"functionName": "f", "revision": 1}
BYTES = bytes(range(256)) * 2000


@pytest.mark.parametrize("kind_of", [Path, str, bytes])
def test_a_package_is_uploaded_with_its_settings(
    client: Any, server: Script, tmp_path: Path, kind_of: Any
) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"archive bytes")
    package = b"archive bytes" if kind_of is bytes else kind_of(archive)
    server.acts += [Reset(), Say(201, FUNCTION)]
    settings = {"timeout": 9.5, "idempotent": True, "env": {"A": "b"}, "entry": "m.f"}
    made = client.register_function("rt:1", "f", package, **settings, cpu=None)
    assert made == FUNCTION
    # The attempt after the lost one sends all of it again.
    for asked in server.asked:
        assert asked.path == "/registerFunction/rt%3A1/f"
        name = b"package" if kind_of is bytes else b"a.zip"
        assert b'name="module"; filename="%b"' % name in asked.body
        assert b"\r\n\r\narchive bytes\r\n" in asked.body
        assert b'name="timeout"\r\n\r\n9.5\r\n' in asked.body
        assert b'name="idempotent"\r\n\r\ntrue\r\n' in asked.body
        assert b'name="env"\r\n\r\n{"A": "b"}\r\n' in asked.body
        assert b'name="entry"\r\n\r\nm.f\r\n' in asked.body
        assert b"cpu" not in asked.body


def test_settings_alone_are_changed_as_json(client: Any, server: Script) -> None:
    server.says(FUNCTION)
    assert client.update_function("f", memory=512, entry=None) == FUNCTION
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("PATCH", "/functions/f")
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {"memory": 512, "entry": None}


def test_a_package_and_a_setting_back_to_its_default(client: Any, server: Script) -> None:
    server.says(FUNCTION)
    client.update_function("f", b"new", memory=512, entry=None)
    body = server.asked[0].body
    assert b'name="memory"\r\n\r\n512\r\n' in body
    assert b'Content-Type: application/json\r\n\r\n{"entry":null}\r\n' in body
    assert b'name="module"; filename="package"' in body


def test_a_large_package_passes_in_little_memory(
    client: Any, server: Script, tmp_path: Path
) -> None:
    archive = tmp_path / "large.tar"
    size = 64 << 20
    with archive.open("wb") as file:
        file.truncate(size)
    server.keeps_bodies = False
    server.acts += [Say(201, FUNCTION)]
    tracemalloc.start()
    try:
        client.register_function("r", "f", archive)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert server.asked[0].length > size


def test_a_package_that_is_not_there_is_told_before_anything_is_sent(
    client: Any, server: Script, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        client.register_function("r", "f", tmp_path / "nowhere.zip")
    assert server.asked == []


def test_a_large_package_that_is_refused_at_once_says_why(
    kind: str, server: Script, tmp_path: Path
) -> None:
    server.acts += [Say(413, error("too_large"))]
    with made(kind, server.url) as client, pytest.raises(BadRequest) as caught:
        client.register_function("r", "f", b"x" * (1 << 20))
    assert caught.value.code == "too_large"


def test_preparing_asks_for_the_log_only_if_somebody_listens(
    client: Any, server: Script
) -> None:
    server.says(FUNCTION, FUNCTION, FUNCTION)
    client.register_function("r", "f", b"x", prepare=True)
    client.update_function("f", prepare=True, on_log=print, memory=9)
    client.register_function("r", "f", b"x", on_log=print)
    assert [asked.path for asked in server.asked] == [
        "/registerFunction/r/f?prepare=true",
        "/functions/f?prepare=true",
        "/registerFunction/r/f",
    ]
    accepted = [asked.headers["accept"] for asked in server.asked]
    assert accepted == ["*/*", "application/x-ndjson", "*/*"]


def test_an_install_that_fails_raises_after_its_log(client: Any, server: Script) -> None:
    refused = error("install_failed", "no such package", "look at requirements.txt")
    lines = [b'{"log": "looking\\n"}\n', b'{"status": 400, "error": %b}\n']
    body = str(refused["error"]).replace("'", '"').encode()
    server.acts += [Pieces([lines[0], lines[1] % body]), Say(400, refused)]
    heard: list[str] = []
    for on_log in (heard.append, None):
        with pytest.raises(InstallFailed, match="no such package") as caught:
            client.register_function("r", "f", b"x", prepare=True, on_log=on_log)
        assert (caught.value.status, caught.value.hint) == (400, "look at requirements.txt")
    assert heard == ["looking\n"]


def test_a_listener_that_raises_ends_the_request(client: Any, server: Script) -> None:
    server.acts += [Pieces([b'{"log": "x"}\n', b'{"status": 201, "function": {}}\n'])]

    def listen(_: str) -> None:
        raise StopIteration("enough")

    with pytest.raises((StopIteration, RuntimeError), match=r"enough|StopIteration"):
        client.register_function("r", "f", b"x", prepare=True, on_log=listen)
    assert len(server.asked) == 1


def test_a_download_is_whole_or_not_at_all(
    client: Any, server: Script, clock: Clock, tmp_path: Path
) -> None:
    dest = tmp_path / "f.tar.gz"
    dest.write_bytes(b"old")
    server.acts += [Cut(Say(200, BYTES))] * 7
    with pytest.raises(NotReachable):
        client.download_function("f", dest)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    server.acts += [Cut(Say(200, BYTES)), Say(200, BYTES)]
    assert client.download_function("f", str(dest), 3) == dest
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [BYTES]
    assert server.asked[-1].path == "/functions/f/package?revision=3"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("attachment; filename*=UTF-8''d%C3%BCse.zip", "düse.zip"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("attachment; filename*=UTF-8''a%5Cb.zip", "b.zip"),
        ("attachment; filename*=UTF-8''..", "package"),
        ("attachment", "package"),
    ],
)
def test_a_download_into_a_folder_stays_in_it(
    client: Any, server: Script, tmp_path: Path, said: str, name: str
) -> None:
    server.acts += [Say(200, b"bytes", {"Content-Disposition": said})]
    assert client.download_function("f", tmp_path) == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_download_that_is_refused_leaves_nothing(
    client: Any, server: Script, tmp_path: Path
) -> None:
    server.acts += [Say(404, error("unknown_function")), Say(500, b"what")]
    for kind_of in (UnknownFunction, SkepError):
        with pytest.raises(kind_of):
            client.download_function("f", tmp_path / "f.zip")
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_text(client: Any, server: Script) -> None:
    server.says(b"skep_calls 1\n")
    assert client.metrics() == "skep_calls 1\n"
