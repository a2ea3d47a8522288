"""Answers FETCH with CHUNKs: packages from the disk, large params from memory.

As much as the fetcher granted and as the link's window has room for, a chunk at a time, taking
turns between what one session fetches; heartbeats and STARTs pass in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.roster import Session
from wire.codec import Message
from wire.errors import SkepError, UnknownCall
from wire.messages import CHUNK_BYTES, Chunk, Fetch
from wire.models import Reason
from wire.process import spawn

SendMessage = Callable[[Session, Message, bytes], None]
Params = Callable[[int, int], bytes | None]
_SHA256_CHARS: Final = frozenset("0123456789abcdef")


@dataclass(slots=True)
class _Fetching:
    fetch: Fetch
    offset: int
    until: int


class Courier:
    """What every session fetches."""

    def __init__(self, packages: Path, params: Params, send: SendMessage) -> None:
        self._packages = packages
        self._params = params
        self._send = send
        self._wanted: dict[Session, dict[tuple[str, str], _Fetching]] = {}
        self._room: dict[Session, asyncio.Event] = {}
        self._tasks: dict[Session, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Courier of {len(self._wanted)} sessions>"

    def fetch(self, session: Session, fetch: Fetch) -> None:
        """Serve from ``offset`` on, up to the credit; renews what was asked before."""
        wanted = self._wanted.setdefault(session, {})
        wanted[fetch.what, fetch.key] = _Fetching(
            fetch, fetch.offset, fetch.offset + fetch.credit
        )
        if session not in self._tasks:
            self._room[session] = asyncio.Event()
            self._tasks[session] = spawn(self._serve(session), f"courier {session.number}")

    def moved(self, session: Session) -> None:
        """The session's window may have opened."""
        if (room := self._room.get(session)) is not None:
            room.set()

    def drop(self, session: Session) -> None:
        """The session is over."""
        self._wanted.pop(session, None)
        if (task := self._tasks.get(session)) is not None:
            task.cancel()

    def close(self) -> None:
        """End every delivery."""
        for session in list(self._tasks):
            self.drop(session)

    async def _serve(self, session: Session) -> None:
        try:
            while wanted := self._wanted.get(session):
                name, fetching = next(iter(wanted.items()))
                await self._has_room(session)
                done = await self._deliver(session, fetching)
                if wanted.get(name) is fetching:
                    del wanted[name]
                    if not done:
                        wanted[name] = fetching
        finally:
            self._tasks.pop(session, None)
            self._room.pop(session, None)
            self._wanted.pop(session, None)

    async def _has_room(self, session: Session) -> None:
        room = self._room[session]
        while session.window < CHUNK_BYTES:
            room.clear()
            await room.wait()

    async def _deliver(self, session: Session, fetching: _Fetching) -> bool:
        """Send the next chunk; return whether that was the last that may be sent."""
        fetch, offset = fetching.fetch, fetching.offset
        size = min(CHUNK_BYTES, fetching.until - offset)
        try:
            total, data = await self._read(fetch, offset, size)
        except (SkepError, OSError) as error:
            reason = Reason(
                code="no_space" if isinstance(error, OSError) else "not_found",
                message=f"{fetch.what} {fetch.key} cannot be read: {error}",
            )
            self._send(session, self._chunk(session, fetch, offset, 0, reason), b"")
            return True
        self._send(session, self._chunk(session, fetch, offset, total), data)
        fetching.offset += len(data)
        return not data or fetching.offset >= min(fetching.until, total)

    def _chunk(
        self,
        session: Session,
        fetch: Fetch,
        offset: int,
        total: int,
        error: Reason | None = None,
    ) -> Chunk:
        return Chunk(
            session=session.number,
            what=fetch.what,
            key=fetch.key,
            offset=offset,
            total=total,
            error=error,
        )

    async def _read(self, fetch: Fetch, offset: int, size: int) -> tuple[int, bytes]:
        if fetch.what == "package":
            # The key becomes a file name: nothing but a sha256 may.
            if not fetch.key or not _SHA256_CHARS.issuperset(fetch.key):
                raise UnknownCall("no such package")
            return await asyncio.to_thread(_slice, self._packages / fetch.key, offset, size)
        call, _, attempt = fetch.key.partition(".")
        digits = call.isdecimal() and attempt.isdecimal()
        params = self._params(int(call), int(attempt)) if digits else None
        if params is None:
            raise UnknownCall("no such attempt is under way")
        return len(params), params[offset : offset + size]


def _slice(path: Path, offset: int, size: int) -> tuple[int, bytes]:
    with path.open("rb") as file:
        total = file.seek(0, 2)
        file.seek(offset)
        return total, file.read(size)
