"""A thread with an event loop: what a synchronous client does in the background."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from skep.dialogue import Dialogue
from skep.performing import perform_async
from skep.transport import AsyncTransport, Place

T = TypeVar("T")


class Portal:
    """Carries out many dialogues at once, on one thread, each of which can be cancelled.

    The thread never keeps a program from ending. A fork has no such thread and needs its own.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        opened: Future[tuple[asyncio.AbstractEventLoop, AsyncTransport]] = Future()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(opened)), name="skep-portal", daemon=True
        )
        self._thread.start()
        self._loop, self._transport = opened.result()

    def start(self, dialogue: Dialogue[T]) -> Future[T]:
        """Begin a dialogue; the future's ``cancel`` ends it wherever it stands."""
        return self.run(self.perform(dialogue))

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run what awaits on the thread's loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def perform(self, dialogue: Dialogue[T]) -> T:
        """Carry out a dialogue, on the thread's loop."""
        return await perform_async(dialogue, self._transport.send, asyncio.sleep)

    def close(self) -> None:
        """Cancel what is under way, close the connections, and end the thread."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _serve(
        self, opened: Future[tuple[asyncio.AbstractEventLoop, AsyncTransport]]
    ) -> None:
        transport = AsyncTransport(self._place)
        opened.set_result((asyncio.get_running_loop(), transport))
        await self._closing.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await transport.close()
