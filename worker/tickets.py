"""Bundles that the api asks for ahead of any call, each under a ticket of its own.

The answer belongs to the session that asked: when that is lost nobody is told any more, but
what was begun goes on, and whoever asks next finds it made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from wire.codec import Message
from wire.messages import Bundle, Bundled, BundleLog
from wire.process import spawn
from worker.bundles import Bundles
from worker.failures import NoBundle
from worker.pulls import Pulls

#: One message carries so many characters; it must not hold up a heartbeat.
PIECE_CHARS: Final = 64 << 10


class Tickets:
    """All tickets of the open session."""

    def __init__(self, bundles: Bundles, pulls: Pulls, say: Callable[[Message], None]) -> None:
        self._bundles = bundles
        self._pulls = pulls
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Tickets: {len(self._tasks)} open>"

    def heard(self, message: Message) -> None:
        """Begin to make a bundle, if that is what was asked."""
        if not isinstance(message, Bundle):
            return
        task = spawn(self._serve(message), f"ticket {message.ticket}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self) -> None:
        """The session is over: nobody is left to be told."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """End them all."""
        tasks = list(self._tasks)
        self.lost()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, bundle: Bundle) -> None:
        def show(text: str) -> None:
            for at in range(0, len(text), PIECE_CHARS):
                piece = text[at : at + PIECE_CHARS]
                self._say(BundleLog(session=bundle.session, ticket=bundle.ticket, text=piece))

        user = f"ticket {bundle.session}.{bundle.ticket}"
        try:
            await self._pulls.have(bundle.spec.runtime.image, lambda text: show(f"{text}\n"))
            await self._bundles.acquire(user, bundle.spec, show)
        except NoBundle as error:
            self._say(_failed(bundle, error))
        else:
            self._say(Bundled(session=bundle.session, ticket=bundle.ticket))
        finally:
            self._bundles.release(user)


def _failed(bundle: Bundle, error: NoBundle) -> Bundled:
    return Bundled(
        session=bundle.session,
        ticket=bundle.ticket,
        fault=error.fault,
        reason=error.reason,
    )
