"""Workers that are simulated: each a session of its own over a real socket, and no sandbox.

    python -m benchmarks.simulated ENDPOINT COUNT

They say and obey what docs/protocol.md has between api and worker, grant slots, and answer
each START at once with its params. So what an api spends on many nodes can be measured on a
machine that could not run them. Prints a line when all sessions are open; ends when stdin does.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Final

import uvloop
import zmq

import skep
from wire import messages as m
from wire import sockets
from wire.codec import FRAMES, Message, encode
from wire.models import Status

SLOTS: Final = 4
BEAT_S: Final = 1.0
OPEN_S: Final = 60.0


class SimulatedWorker:
    """One node as the api sees it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, name: str, slots: int
    ) -> None:
        self.opened = asyncio.Event()
        self._context = context
        self._endpoint = endpoint
        self._name = name
        self._slots = slots
        self._warm: set[str] = set()
        self._connect()

    def __repr__(self) -> str:
        return f"<SimulatedWorker {self._name}, {self._ends} calls>"

    def _connect(self) -> None:
        """Begin anew on a fresh socket, where nothing of an old session can follow."""
        socket = sockets.open_socket(self._context, zmq.DEALER)
        socket.connect(self._endpoint)
        self._session, self._seen, self._ends, self._received = 1, 0, 0, 0
        self._link = sockets.Link(socket, FRAMES, self._read)

    def _again(self) -> None:
        """Open another session: the api was busy for so long that it gave this one up."""
        if self.opened.is_set():
            self.opened.clear()
            self._link.close()
            self._connect()
            self.hello()

    def hello(self) -> None:
        """Ask for a session."""
        self._say(
            m.Hello(
                node_id=f"{self._name}-node",
                boot=secrets.token_hex(8),
                name=self._name,
                pid=1,
                version=skep.__version__,
                slots=max(1, self._slots),
                sandbox="fake",
                isolation="nothing: it runs no code of any function",
            )
        )

    def beat(self) -> None:
        """Say that it is alive."""
        if self.opened.is_set():
            self._say(
                m.WorkerHeartbeat(
                    session=self._session,
                    seen=self._seen,
                    received=self._received,
                    running=0,
                    sandboxes=len(self._warm),
                )
            )

    def close(self) -> None:
        """Leave without a word."""
        self._link.close()

    def _read(self, frames: list[bytes]) -> None:
        message, payload = m.FROM_API.decode(frames)
        if isinstance(message, m.Welcome):
            self._session = message.session
            self.opened.set()
            self._grant()
        elif isinstance(message, m.Prepare):
            self._seen += 1
            self._say(
                m.Ready(session=self._session, call=message.call, attempt=message.attempt)
            )
            self._grant()
        elif isinstance(message, m.Start):
            self._seen += 1
            self._received += len(payload)
            self._end(message, payload)
        elif isinstance(message, m.Who):
            # Not within the callback of the link that is closed.
            asyncio.get_running_loop().call_soon(self._again)
        elif isinstance(message, m.Refuse):
            raise SystemExit(f"refused: {message.message}")

    def _end(self, start: m.Start, params: bytes) -> None:
        self._ends += 1
        self._warm.add(start.key)
        outcome = m.Outcome(status=Status.DONE, duration_ms=0.1, result_type="json")
        self._say(
            m.Result(
                session=self._session,
                call=start.call,
                attempt=start.attempt,
                sizes=(0, len(params), 0, 0),
                outcome=outcome,
                number=self._ends,
            ),
            params,
        )
        self._grant(start.key)

    def _grant(self, *changed: str) -> None:
        self._say(
            m.Credit(
                session=self._session,
                seen=self._seen,
                free=self._slots,
                warm=tuple(m.Warm(key, self._slots) for key in changed),
                received=self._received,
            )
        )

    def _say(self, message: Message, payload: bytes = b"") -> None:
        self._link.send(encode(message, payload))


async def run(endpoint: str, count: int, slots: int) -> None:
    """Open so many sessions, and keep them until stdin ends."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    workers = [
        SimulatedWorker(context, endpoint, f"simulated{number}", slots)
        for number in range(count)
    ]
    for worker in workers:
        worker.hello()
    async with asyncio.timeout(OPEN_S):
        for worker in workers:
            await worker.opened.wait()
    print("open", flush=True)
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not over.done():
        for worker in workers:
            # Not all in one moment: nodes know nothing of each other.
            await asyncio.wait([over], timeout=BEAT_S / count)
            worker.beat()
    for worker in workers:
        worker.close()
    context.term()


def main() -> None:
    """Run until stdin ends."""
    endpoint, count, *slots = sys.argv[1:]
    uvloop.run(run(endpoint, int(count), int(slots[0]) if slots else SLOTS))


if __name__ == "__main__":
    main()
