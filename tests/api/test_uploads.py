"""Uploads: whole or not at all, in bounded memory, whatever the client does."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.api.room import Room, open_room, package
from tests.conftest import soon
from tests.wire.test_archive import Entry, entry, link, tar

URL = "/registerFunction/pythonruntime/dice"
BOUNDARY = "frontier"


def form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Return a multipart body, to be sent byte by byte if need be."""
    body = b""
    for name, value, filename in parts:
        more = f'; filename="{filename}"' if filename is not None else ""
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        ).encode() + value
        body += b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


async def raw(room: Room, *pieces: bytes, hang_up: bool = False, **headers: str) -> bytes:
    """Send a registration as it stands; return all that is answered."""
    host = urlsplit(room.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    head = {
        "Host": f"localhost:{host.port}",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    try:
        writer.write(f"POST {URL} HTTP/1.1\r\n{lines}\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return b"" if hang_up else await answered(reader)
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> bytes:
    """Read one answer; the server lingers a while for what it did not read itself."""
    whole = await reader.readuntil(b"\r\n\r\n")
    while b"Content-Length" not in whole:
        whole += await reader.readuntil(b"\r\n\r\n")
    size = int(whole.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return whole + await reader.readexactly(size)


def tar_bytes(*entries: Entry) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def left(room: Room) -> list[str]:
    return sorted(path.name for path in (room.folder / "api" / "packages").iterdir())


def resident(room: Room) -> int:
    """Return how many bytes the api has had in memory at most."""
    assert room.api is not None
    text = Path(f"/proc/{room.api.pid}/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_a_large_upload_passes_in_little_memory(tmp_path: Path) -> None:
    packed = tar(tmp_path / "p", entry("noise", os.urandom(60 << 20)), mode="w")
    async with open_room() as room:
        await room.register()
        before = resident(room)
        with packed.open("rb") as file:
            data = aiohttp.FormData()
            data.add_field("module", file, filename="big.tar")
            status, answer, _ = await room.ask("POST", URL, data=data)
        assert (status, answer["package"]["size"]) == (200, packed.stat().st_size)
        grown = resident(room) - before
        assert grown < packed.stat().st_size / 3, grown
        async with room.http.get(f"{room.url}/functions/dice/package") as response:
            size = 0
            async for piece in response.content.iter_any():
                size += len(piece)
        assert size == packed.stat().st_size
        assert resident(room) - before < packed.stat().st_size / 3


async def test_a_client_that_stops_half_way_leaves_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with open_room() as room:
        await room.register()
        kept = left(room)
        whole = form(("module", package("2"), "x.tgz"), ("timeout", b"9", None))
        for size in range(0, len(whole), 23):
            await raw(room, whole[:size], hang_up=True, Content_Length=str(len(whole)))
        await soon(lambda: left(room) == kept)
        # The same by chunks, of which the last one is missing.
        chunk = b"%x\r\n" % len(whole) + whole + b"\r\n"
        await raw(room, chunk, hang_up=True, Transfer_Encoding="chunked")
        await soon(lambda: left(room) == kept)
        status, answer, _ = await room.ask("GET", "/functions/dice")
        assert (status, answer["revision"]) == (200, 1)
    # Nor does it look like a failure of ours.
    logged = capfd.readouterr().err
    assert "serving http" in logged
    assert "Traceback" not in logged
    assert "ERROR" not in logged


async def test_chunks_are_as_good_as_a_length() -> None:
    async with open_room() as room:
        await room.register()

        async def pieces() -> AsyncIterator[bytes]:
            whole = form(("module", package("3"), "x.tgz"))
            for at in range(0, len(whole), 7):
                yield whole[at : at + 7]

        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, answer, _ = await room.ask("POST", URL, data=pieces(), headers=headers)
        assert (status, answer["revision"]) == (200, 2)


@pytest.mark.parametrize(
    ("body", "length", "status"),
    [
        (form(("module", package(), "x.tgz"))[:-20], "90000", b" 408 "),
        (form(("module", package(), "x.tgz")), "20", b" 400 "),
        (b"zz\r\nno chunk", "", b" 40"),
        (form(("module", package(), "x.tgz")), "many", b" 400 "),
        (form(("module", package(), "x.tgz")), "-1", b" 400 "),
        (b"--other\r\n\r\n", "11", b" 400 "),
        (b"x" * 100_000, "100000", b" 400 "),
    ],
)
async def test_lies_about_the_body_are_refused(body: bytes, length: str, status: bytes) -> None:
    async with open_room("--upload-stall", "0.5") as room:
        await room.register()
        kept = left(room)
        if length:
            answer = await raw(room, body, Content_Length=length)
        else:
            answer = await raw(room, body, Transfer_Encoding="chunked")
        assert status in answer.partition(b"\r\n")[0], answer
        assert b'{"error":{"code":' in answer
        assert left(room) == kept


async def test_a_body_that_stalls_or_trickles_is_given_up() -> None:
    async with open_room("--upload-stall", "0.3") as room:
        await room.register()
        await room.worker()
        kept = left(room)
        whole = form(("module", package("2"), "x.tgz"))
        answer = await raw(room, whole[:100], Content_Length=str(len(whole)))
        assert b" 408 " in answer
        assert b'"code":"stalled"' in answer
        assert b"--upload-stall" in answer
        assert left(room) == kept

        # Not even a whole head.
        host = urlsplit(room.url)
        for begun in (b"", b"GET /runtimes HTTP/1.1\r\nHost: local"):
            reader, writer = await asyncio.open_connection(host.hostname, host.port)
            writer.write(begun)
            assert await reader.read() == b""
            writer.close()

        # Byte by byte, each in time: the whole is far too slow.
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        try:
            writer.write(
                b"POST /invokeFunction HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
            )
            reading = asyncio.ensure_future(answered(reader))
            while not reading.done():
                writer.write(b" ")
                await asyncio.wait((reading,), timeout=0.05)
            assert b'"code":"stalled"' in await reading
        finally:
            writer.close()


async def test_too_much_is_refused_before_it_is_sent() -> None:
    async with open_room("--max-package", "5000") as room:
        await room.register()
        answer = await raw(room, Content_Length="99000000", Expect="100-continue")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 413 " in head.partition(b"\r\n")[0], "without asking for the body"
        assert b'"code":"too_large"' in body
        assert b"--max-package" in body
        whole = form(("module", package("2"), "x.tgz"))
        answer = await raw(room, whole, Content_Length=str(len(whole)), Expect="100-continue")
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
        # Not announced, it is noticed on the way.
        many = form(("module", os.urandom(9000), "x.tgz"))
        chunk = b"%x\r\n" % len(many) + many + b"\r\n0\r\n\r\n"
        assert b" 413 " in await raw(room, chunk, Transfer_Encoding="chunked")
        texts = form(*((f"f{i}", b"x", None) for i in range(200)))
        assert b" 400 " in await raw(room, texts, Content_Length=str(len(texts)))


async def test_what_is_refused_is_not_stored() -> None:
    """Neither for a bad setting beside a good archive, nor for a lost runtime."""
    async with open_room() as room:
        await room.register()
        kept = left(room)

        async def upload(path: str, code: str, **fields: str) -> None:
            data = aiohttp.FormData(fields)
            data.add_field("module", io.BytesIO(package("new")), filename="x.tgz")
            status, answer, _ = await room.ask("POST", path, data=data)
            assert status >= 400, answer
            assert answer["error"]["code"] == code
            assert answer["error"]["hint"]
            assert left(room) == kept

        for bad in (
            {"timeout": "0"},
            {"colour": "red"},
            {"env": "no json"},
            {"entry": "a.b", "run": "c"},
            {"memory": ""},
        ):
            await upload(URL, "bad_request", **bad)
        data = aiohttp.FormData()
        data.add_field("file", io.BytesIO(package("new")), filename="x.tgz")
        status, answer, _ = await room.ask("POST", URL, data=data)
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert "'file'" in answer["error"]["message"]
        assert "module=@" in answer["error"]["hint"]
        assert left(room) == kept
        await upload("/registerFunction/no/dice", "unknown_runtime")
        await upload("/registerFunction/pythonruntime/-x", "bad_request")
        await upload("/registerFunction/pythonruntime/dice?colour=red", "bad_request")
        # Another function may name the same package: it stays for that one.
        status, _, _ = await room.ask("DELETE", "/functions/dice")
        assert status == 204
        data = aiohttp.FormData({"timeout": "0"})
        data.add_field("module", io.BytesIO(package()), filename="x.tgz")
        assert (await room.ask("POST", URL, data=data))[0] == 400
        assert left(room) == kept


BOMB = tar_bytes(entry("z", bytes(20 << 20)))
HOSTILE: list[tuple[str, bytes, int, str, str]] = [
    ("traversal.tgz", tar_bytes(entry("../x")), 400, "unsafe_archive", "leads out"),
    ("absolute.tgz", tar_bytes(entry("/etc/x")), 400, "unsafe_archive", "absolute"),
    ("link.tgz", tar_bytes(link("l", "../../etc")), 400, "unsafe_archive", "link"),
    ("device.tgz", tar_bytes(entry("d", b"", type=tarfile.CHRTYPE)), 400, "unsafe_archive",
     "device"),
    ("bomb.tgz", BOMB, 400, "unsafe_archive", "times its size"),
    ("deep.tgz", tar_bytes(entry("a/" * 40 + "b")), 400, "unsafe_archive", "deeper"),
    ("many.tgz", tar_bytes(*(entry(f"f{i}", b"") for i in range(20_001))), 413, "too_large",
     "20000 files"),
    ("text.zip", b"no archive", 415, "unsupported_archive", "no zip"),
    ("cut.tgz", package()[:60], 415, "unsupported_archive", "cut off"),
    ("dice.rar", package(), 415, "unsupported_archive", "no suffix"),
    ("dice.zip", package(), 415, "unsupported_archive", "tar.gz"),
]  # fmt: skip


async def test_hostile_packages_are_refused_by_name_and_leave_nothing() -> None:
    async with open_room() as room:
        await room.register()
        kept = left(room)
        for filename, content, expected, code, says in HOSTILE:
            for method, path in (("POST", URL), ("PATCH", "/functions/dice")):
                data = aiohttp.FormData()
                data.add_field("module", io.BytesIO(content), filename=filename)
                status, answer, _ = await room.ask(method, path, data=data)
                assert (status, answer["error"]["code"]) == (expected, code), answer
                assert says in answer["error"]["message"]
                assert filename in answer["error"]["message"]
                assert left(room) == kept
        assert (await room.ask("GET", "/functions/dice"))[1]["revision"] == 1


async def test_a_refusal_of_the_db_node_leaves_no_package() -> None:
    """The runtime goes while its function's package comes."""
    async with open_room() as room:
        body: Any = {"image": "short", "path": "/ws"}
        assert (await room.ask("POST", "/registerRuntime", body))[0] == 201
        gone = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            whole = form(("module", package(), "x.tgz"))
            yield whole[:50]
            assert (await room.ask("DELETE", "/runtimes/short"))[0] == 204
            gone.set()
            yield whole[50:]

        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, answer, _ = await room.ask(
            "POST", "/registerFunction/short/f", data=pieces(), headers=headers
        )
        assert gone.is_set()
        assert (status, answer["error"]["code"]) == (404, "unknown_runtime")
        assert left(room) == []


async def test_what_nobody_names_is_removed_at_a_start() -> None:
    async with open_room() as room:
        await room.register()
        kept = left(room)
        folder = room.folder / "api" / "packages"
        assert room.db is not None
        assert room.api is not None
        # The DB node dies under a registration: nobody can know whether it was stored.
        room.db.end(signal.SIGKILL)
        data = aiohttp.FormData()
        data.add_field("module", io.BytesIO(package("lost")), filename="x.tgz")
        status, _, _ = await room.ask("POST", URL, data=data)
        assert status == 503
        assert len(left(room)) == 2
        (folder / ".upload-dead").write_bytes(b"half")
        (folder / "mine.txt").write_bytes(b"not the api's")
        room.api.end(signal.SIGKILL)
        await room.start_db()
        await room.start_api()
        assert left(room) == sorted([*kept, "mine.txt"])
        async with room.http.get(f"{room.url}/functions/dice/package") as response:
            assert await response.read() == package()


async def test_a_package_comes_back_under_its_own_name() -> None:
    async with open_room() as room:
        await room.register()
        for said, plain, full in (
            ('filename="dice.tar.gz"', "dice.tar.gz", "dice.tar.gz"),
            ("filename*=utf-8''w%C3%BCrfel.tgz", "w_rfel.tgz", "w%C3%BCrfel.tgz"),
            ("filename*=utf-8''a%0D%0AX%3A%201.tgz", "a__X__1.tgz", "a%0D%0AX%3A%201.tgz"),
        ):
            whole = form(("module", package(full), "NAME"))
            whole = whole.replace(b'filename="NAME"', said.encode())
            answer = await raw(room, whole, Content_Length=str(len(whole)))
            assert b" 200 " in answer.partition(b"\r\n")[0], answer
            async with room.http.get(f"{room.url}/functions/dice/package") as response:
                assert "X" not in response.headers
                assert response.headers["Content-Disposition"] == (
                    f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"
                )
                assert await response.read() == package(full)


async def test_settings_may_come_as_json_parts() -> None:
    async with open_room() as room:
        await room.register()
        data = aiohttp.FormData()
        data.add_field("module", io.BytesIO(package("2")), filename="x.tgz")
        data.add_field("env", '{"A": "1"}', content_type="application/json")
        data.add_field("more", '{"timeout": 9, "cpu": 0.5}', content_type="application/json")
        status, answer, _ = await room.ask("POST", URL, data=data)
        assert status == 200, answer
        assert (answer["env"], answer["timeout"], answer["cpu"]) == ({"A": "1"}, 9.0, 0.5)
