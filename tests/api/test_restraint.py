"""Answers that wait while the store is behind."""

from __future__ import annotations

import asyncio

from api import restraint
from api.outbox import Outbox
from api.restraint import Restraint
from tests.conftest import soon


def outbox(size: int) -> Outbox:
    """Return one of 100 bytes, with a record of so many in it."""
    made = Outbox(max_records=10, max_bytes=100)
    made.put(1, 1, size, 0.0)
    return made


async def test_an_answer_waits_only_while_the_outbox_is_half_full() -> None:
    told: list[int] = []
    full = outbox(50)
    held = Restraint(full, told.append)
    held.stored()
    held.ended(7)
    held.ended(8)
    assert told == []
    held.stored()
    assert told == []
    full.take()
    full.acked()
    held.stored()
    assert told == [7, 8]
    held.ended(9)
    assert told == [7, 8, 9]
    assert held.held_count == 2


async def test_where_there_is_room_nobody_waits() -> None:
    told: list[int] = []
    held = Restraint(outbox(49), told.append)
    held.stored()
    held.ended(7)
    assert told == [7]


async def test_a_store_that_takes_nothing_is_not_waited_for() -> None:
    told: list[int] = []
    held = Restraint(outbox(100), told.append)
    held.ended(7)
    assert told == [7]


async def test_no_answer_waits_for_ever() -> None:
    told: list[int] = []
    held = Restraint(outbox(100), told.append)
    held.stored()
    begun = asyncio.get_running_loop().time()
    held.ended(7)
    await soon(lambda: told == [7])
    assert asyncio.get_running_loop().time() - begun >= 0.9 * restraint.HOLD_S


async def test_at_the_end_all_are_told() -> None:
    told: list[int] = []
    held = Restraint(outbox(100), told.append)
    held.stored()
    held.ended(7)
    held.close()
    held.close()
    assert told == [7]
