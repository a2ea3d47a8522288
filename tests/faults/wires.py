"""The wires between the processes of an installation, in the hands of a test.

Each wire is a socket that one side connects to, and passes whole ZeroMQ messages on to where
the other side listens. It can be held (what is sent comes later), cut (what was under way is
lost, and nobody gets through), and watched: something is done at the very moment at which a
message of some name passes, just before it or just after.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from wire.messages import FROM_API, FROM_WORKER

#: Towards who listens, or towards who connected.
Way = Literal["there", "back"]
#: What is done when a message passes: True from ``before`` and the message is lost.
Act = Callable[[], bool | None]

_GREETING_BYTES: Final = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_CHUNK: Final = 1 << 18
#: The name of a request to the DB node, in JSON as in MessagePack.
_ASKED: Final = re.compile(rb'msgType(?:"\s*:\s*"|[\xa0-\xbf])([A-Za-z]+)')


class Parser:
    """Cuts what one side sends into messages (ZMTP 3: rfc.zeromq.org/spec/23). Pure."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._to_greet = _GREETING_BYTES
        self._raw = bytearray()
        self._frames: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        """Return the bytes of each whole message and its frames: none of a greeting."""
        if self._to_greet:
            # Peers say the rest of it once they have heard the beginning of the other's.
            greeting, data = data[: self._to_greet], data[self._to_greet :]
            self._to_greet -= len(greeting)
            yield greeting, []
        self._data += data
        while (size := self._next()) is not None:
            yield from self._take(*size)

    def _next(self) -> tuple[int, int] | None:
        """Return where the body of the next frame begins and ends, if all of it is here."""
        if len(self._data) < 2:
            return None
        begin = 9 if self._data[0] & _LONG else 2
        if len(self._data) < begin:
            return None
        end = begin + int.from_bytes(self._data[1:begin], "big")
        return (begin, end) if len(self._data) >= end else None

    def _take(self, begin: int, end: int) -> Iterator[tuple[bytes, list[bytes]]]:
        flags, frame = self._data[0], bytes(self._data[begin:end])
        whole = bytes(self._data[:end])
        del self._data[:end]
        if flags & _COMMAND:
            yield whole, []
            return
        self._raw += whole
        self._frames.append(frame)
        if not flags & _MORE:
            yield bytes(self._raw), self._frames
            self._raw, self._frames = bytearray(), []


def name_of(frames: list[bytes], way: Way) -> str:
    """Return the class of a message between api and worker, or what the DB node is asked."""
    head = frames[-3] if len(frames) >= 3 else b""
    if len(head) == 3:
        dialect = FROM_WORKER if way == "there" else FROM_API
        known = dialect.kinds.get(head[2])
        return known.__name__ if known else ""
    asked = _ASKED.search(frames[-1][:100]) if frames else None
    return asked[1].decode() if asked else ""


@dataclass(eq=False)
class Watch:
    """What is done once, when a message of this name passes this way."""

    name: str
    way: Way
    before: Act = lambda: None
    after: Act = lambda: None
    #: Set when it has been done.
    done: threading.Event = field(default_factory=threading.Event)


class Wire:
    """One wire; all of it runs on the loop of its ``Wires``."""

    def __init__(self, listens: Path | socket.socket, leads: Path) -> None:
        self._listens = listens
        self._leads = leads
        self._open = asyncio.Event()
        self._open.set()
        self._is_cut = False
        self._watches: list[Watch] = []
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        #: What passed, by name.
        self.passed: dict[str, int] = {}

    async def listen(self) -> None:
        if isinstance(self._listens, Path):
            self._server = await asyncio.start_unix_server(self._serve, self._listens)
        else:
            self._server = await asyncio.start_server(self._serve, sock=self._listens)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            await self._join(near, back)
        finally:
            self._pumps.discard(task)
            self._ends.discard(back)
            back.close()

    async def _join(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        try:
            far, there = await asyncio.open_unix_connection(self._leads)
        except OSError:
            return
        self._ends |= {back, there}
        asked = [""]
        pumps = [
            asyncio.create_task(self._pump(near, there, "there", asked)),
            asyncio.create_task(self._pump(far, back, "back", asked)),
        ]
        try:
            # One side that has gone takes the other with it.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._ends.discard(there)
            there.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        way: Way,
        asked: list[str],
    ) -> None:
        parser = Parser()
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                for whole, frames in parser.feed(data):
                    await self._open.wait()
                    await self._pass(whole, frames, target, way, asked)

    async def _pass(
        self,
        whole: bytes,
        frames: list[bytes],
        target: asyncio.StreamWriter,
        way: Way,
        asked: list[str],
    ) -> None:
        name = name_of(frames, way) if frames else ""
        if frames and not name:
            # An answer of the DB node is called as what was asked on this connection.
            name = asked[0]
        elif way == "there" and name:
            asked[0] = name
        self.passed[name] = self.passed.get(name, 0) + 1
        found = next((w for w in self._watches if (w.name, w.way) == (name, way)), None)
        if found is not None:
            self._watches.remove(found)
            is_lost = found.before()
            if is_lost:
                found.done.set()
                return
        try:
            target.write(whole)
            await target.drain()
        finally:
            # Whoever it was for may be dead by now, of what was done before it.
            if found is not None:
                found.after()
                found.done.set()

    # --- what is done to it ---

    def watch(self, one: Watch) -> None:
        self._watches.append(one)

    def unwatch(self, one: Watch) -> None:
        with suppress(ValueError):
            self._watches.remove(one)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut(self) -> None:
        self._is_cut = True
        self.drop()
        self._open.set()

    def drop(self) -> None:
        """Break what connections there are; what was under way in them is lost."""
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        # Each ends with its connection: who is cancelled would be logged as failed.
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)


class Wires:
    """All wires of an installation whose sockets are in ``run``, by name, on a thread.

    ``db`` leads from the api to the DB node; ``node1`` and ``node1.pub`` from a worker to the
    api. Every method may be called from any thread.
    """

    def __init__(
        self,
        folder: Path,
        run: Path,
        workers: int,
        sockets: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        """Listen in ``folder``, or on these sockets."""
        self.folder = folder
        self.nodes: Final = [f"node{n}" for n in range(1, workers + 1)]
        leads = {"db": run / "db"}
        for node in self.nodes:
            leads |= {node: run / "workers", f"{node}.pub": run / "pub"}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires")
        self._thread.start()
        self._wires = self._run(self._open(leads, sockets))

    async def _open(
        self, leads: dict[str, Path], sockets: Mapping[str, socket.socket]
    ) -> dict[str, Wire]:
        wires = {
            name: Wire(sockets.get(name, self.folder / name), place)
            for name, place in leads.items()
        }
        for wire in wires.values():
            await wire.listen()
        return wires

    def __repr__(self) -> str:
        return f"<Wires {' '.join(self._wires)}>"

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(20)

    def _do(self, name: str, verb: str, *given: Any) -> None:
        async def done() -> None:
            getattr(self._wires[name], verb)(*given)

        self._run(done())

    def watch(self, name: str, one: Watch) -> Watch:
        """Have something done when a message passes; return the watch, to wait for it."""
        self._do(name, "watch", one)
        return one

    def unwatch(self, one: Watch) -> None:
        """Watch no more, on whichever wire."""
        for name in self._wires:
            self._do(name, "unwatch", one)

    def passed(self, name: str, message: str) -> int:
        """Return how many messages of a name passed."""
        count: int = self._wires[name].passed.get(message, 0)
        return count

    def hold(self, name: str) -> None:
        """Let nothing pass; nobody is told, and all of it comes after ``release``."""
        self._do(name, "hold")

    def release(self, name: str) -> None:
        """Let pass again."""
        self._do(name, "release")

    def drop(self, name: str) -> None:
        """Break the connections; what was under way is lost, and new ones may be made."""
        self._do(name, "drop")

    def cut(self, name: str) -> None:
        """Break the connections and let nobody connect."""
        self._do(name, "cut")

    def mend(self, name: str) -> None:
        """Let connect again."""
        self._do(name, "mend")

    def close(self) -> None:
        """End all of it."""

        async def closed() -> None:
            for wire in self._wires.values():
                await wire.close()

        self._run(closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
