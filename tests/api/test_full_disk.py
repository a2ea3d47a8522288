"""The api's own disk is full: an upload is refused clearly, leaves nothing, and works later."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import aiohttp

from tests.api.room import Room, open_room
from tests.packing import tar_gz
from tests.small_disk import small_disk

URL = "/registerFunction/pythonruntime/dice"


async def upload(room: Room, package: bytes) -> tuple[int, str]:
    form = aiohttp.FormData()
    form.add_field("module", io.BytesIO(package), filename="python.tar.gz")
    status, answer, _ = await room.ask("POST", URL, data=form)
    return status, answer.get("error", {}).get("code", "")


async def test_a_full_disk_refuses_uploads_and_keeps_what_was_there(tmp_path: Path) -> None:
    large = tar_gz({"test.py": "print(2)", "data": os.urandom(300_000).hex()})
    with small_disk(tmp_path / "disk", 4) as disk:
        async with open_room() as room:
            assert room.api is not None
            await asyncio.to_thread(room.api.end)
            room.data = disk.folder
            await room.start_api()
            await room.register()
            kept = sorted((disk.folder / "packages").iterdir())
            for leave in (0, 4096, 100_000, 250_000):
                disk.fill(leave)
                assert await upload(room, large) == (503, "store_unavailable")
                assert sorted((disk.folder / "packages").iterdir()) == kept
                # What needs no disk of the api goes on.
                _, function, _ = await room.ask("GET", "/functions/dice")
                assert function["revision"] == 1
                disk.free()
            assert await upload(room, large) == (200, "")
            _, function, _ = await room.ask("GET", "/functions/dice")
            assert function["revision"] == 2
