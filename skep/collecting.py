"""Calls that are made one by one and travel together: at once when nothing is on its way.

Else they are collected until the server has taken the request before. So a single call waits
for nothing, and many at a time share few requests, as many as the connection is slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol, TypeVar

from skep.batch import next_lot
from skep.dialogue import Dialogue
from skep.records import Call
from skep.verbs import Verbs

T = TypeVar("T")


class Perform(Protocol):
    """Carries out a dialogue, on an event loop."""

    def __call__(self, dialogue: Dialogue[T], /) -> Awaitable[T]:
        """Return its value."""


class Collector:
    """Makes calls of one function, with the same options, on one event loop."""

    def __init__(
        self,
        verbs: Verbs,
        perform: Perform,
        function: str,
        settings: Mapping[str, Any],
        wait: float | None,
    ) -> None:
        self._verbs = verbs
        self._perform = perform
        self._function = function
        self._settings = settings
        self._wait = wait
        self._waiting: list[_Asked] = []
        self._is_on_its_way = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Collector of {self._function}, {len(self._waiting)} wait>"

    async def call(self, params: Any, key: str | None) -> Call:
        """Make a call and look after it for as long as was said; return its record.

        Raises:
            SkepError: it was not accepted.
            TypeError, ValueError: the params are no JSON, or the key can be none.
        """
        end = self._verbs.end(self._wait)
        line = self._verbs.line(self._function, params, key, self._settings)
        asked = _Asked(line)
        self._waiting.append(asked)
        # Not before the loop's next turn: what is made in this one goes along.
        asyncio.get_running_loop().call_soon(self._send)
        return await self._perform(self._verbs.wait_until(await asked.future, end))

    def _send(self) -> None:
        self._waiting = [asked for asked in self._waiting if not asked.future.done()]
        if self._is_on_its_way or not self._waiting:
            return
        count = next_lot(self._waiting)
        lot, self._waiting = self._waiting[:count], self._waiting[count:]
        self._is_on_its_way = True
        name = f"skep batch of {self._function}"
        task = asyncio.get_running_loop().create_task(self._carry(lot), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for asked in lot:
            asked.future.add_done_callback(lambda _: _end_unwanted(task, lot))

    async def _carry(self, lot: list[_Asked]) -> None:
        is_taken = False

        def taken() -> None:
            nonlocal is_taken
            if not is_taken:
                is_taken, self._is_on_its_way = True, False
                self._send()

        batch = self._verbs.batch(lot, self._wait, taken)
        try:
            await self._perform(batch.dialogue())
        except Exception as error:
            # Those who wait for the calls hear of it, whatever it is.
            batch.fail(error)
        finally:
            taken()


class _Asked:
    """A line, and the future of its call."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Call | Exception) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


def _end_unwanted(task: asyncio.Task[None], lot: list[_Asked]) -> None:
    """End a request of which nobody awaits the rest of the answer any more."""
    futures = [asked.future for asked in lot]
    if all(one.done() for one in futures) and any(one.cancelled() for one in futures):
        task.cancel()
