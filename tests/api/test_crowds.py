"""Many clients at once: what is refused never runs."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from tests.api.room import open_room

LIMIT = 4
CLIENTS = 12
#: More than the api has numbers for before it has to ask for others.
NUMBERS = 17
#: More than two blocks of numbers, whatever the second is; a client has 100 connections.
BURST = 99


async def test_who_is_refused_after_waiting_for_a_number_was_not_accepted() -> None:
    async with open_room("--max-waiting", str(LIMIT)) as room:
        await room.register()
        await room.worker()
        assert room.db is not None
        os.kill(room.db.pid, signal.SIGSTOP)
        try:
            using_up = [asyncio.ensure_future(room.invoke()) for _ in range(NUMBERS)]
            await all_were_read(room.ask)
            asking = [
                asyncio.ensure_future(room.invoke("?wait=2", params={"client": n}))
                for n in range(CLIENTS)
            ]
            await all_were_read(room.ask)
        finally:
            os.kill(room.db.pid, signal.SIGCONT)
        answers = await asyncio.gather(*asking)
        await asyncio.gather(*using_up)
        refused = {n for n, (status, _) in enumerate(answers) if status == 429}
        assert len(refused) == CLIENTS - LIMIT
        _, calls, _ = await room.ask("GET", "/calls?limit=1000")
        accepted = {call["params"].get("client") for call in calls.values()} - {None}
        assert accepted == set(range(CLIENTS)) - refused


async def test_a_burst_has_as_many_numbers_leased_as_it_needs() -> None:
    async with open_room() as room:
        await room.register()
        await room.worker()
        assert room.db is not None
        os.kill(room.db.pid, signal.SIGSTOP)
        try:
            burst = [asyncio.ensure_future(room.invoke("?wait=1")) for _ in range(BURST)]
            await all_were_read(room.ask)
        finally:
            os.kill(room.db.pid, signal.SIGCONT)
        # Nobody else comes whose request would have another block leased.
        assert {status for status, _ in await asyncio.gather(*burst)} == {202}


async def all_were_read(ask: Any) -> None:
    """Requests are read in the order of their coming: ask a few more, and see them answered."""
    for _ in range(20):
        assert (await ask("GET", "/functions"))[0] == 200
