"""Doing a thing once however many wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is under way, by key; each ends for all who joined it alike."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T | Exception]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Begin it, or wait with the others; return or raise what came of it."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(_outcome(work), name=f"flight of {key}")
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
            self._tasks[key] = task
        # One who leaves must not end it for the others.
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outcome(work: Callable[[], Awaitable[T]]) -> T | Exception:
    """Return a failure as a value: nobody may be left to hear it raised."""
    try:
        return await work()
    except Exception as error:
        return error
