"""Many clients at once: what is refused never runs."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.api.room import open_room

LIMIT = 4
CLIENTS = 12
#: More than the api has numbers for before it has to ask for others.
NUMBERS = 17


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


async def all_were_read(ask: object) -> None:
    """Requests are read in the order of their coming: ask a few more, and see them answered."""
    assert callable(ask)
    for _ in range(20):
        assert (await ask("GET", "/functions"))[0] == 200
