"""Clients that ask again and again: as many as wanted, each on a connection of its own.

A process of its own (``python -m benchmarks.load``), so that what the clients cost is not
taken from the loop of what is measured. Closed: each client asks as soon as it was answered.
Open: requests are due at a fixed rate, and a latency counts from when its request was due, so
that a server which stalls is not spared the requests of that time (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

ROOT: Final = Path(__file__).parents[1]
_LENGTH: Final = b"\r\ncontent-length: "
_END_OF_CHUNKS: Final = b"0\r\n\r\n"
_CHUNKED: Final = -1
#: How late a server may be with everything before that is an end of the run.
STALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, and how."""

    url: str
    body: bytes
    #: What each answer has to begin with: a wrong answer is no fast one.
    expect: bytes = b"HTTP/1.1 200"
    clients: int = 1
    calls: int = 2000
    #: Requests a second; None: closed loop.
    rate: float | None = None
    content_type: str = "application/json"
    #: What has to be in each answer so many times, where one request asks for many calls.
    every: bytes = b""
    times: int = 0

    @property
    def request(self) -> bytes:
        """Return the bytes of one request."""
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


class Connection(asyncio.Protocol):
    """One client: one request under way at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = bytearray()
        #: Bytes of the answer that is coming, with its head; 0: not known yet.
        self._whole = 0
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what requests are written to."""
        self._transport = transport  # type: ignore[assignment]

    def ask(self, due: float) -> None:
        """Send one request; its latency counts from ``due``."""
        self._due = due
        if self._transport is not None:
            self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        """Take an answer, whole or in pieces."""
        self._buffer += data
        if not self._whole and not self._learn_end():
            return
        if self._whole == _CHUNKED:
            is_there = self._buffer.endswith(_END_OF_CHUNKS)
        else:
            is_there = len(self._buffer) >= self._whole
        if is_there:
            took = time.perf_counter() - self._due
            answer, self._buffer, self._whole = bytes(self._buffer), bytearray(), 0
            self._run.answered(self, answer, took)

    def _learn_end(self) -> bool:
        """Find out how long the answer is; return whether that is known."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower() + b"\r\n"
        at = head.find(_LENGTH) + len(_LENGTH)
        if at < len(_LENGTH):
            self._whole = _CHUNKED
        else:
            self._whole = end + 4 + int(head[at : head.index(b"\r\n", at)])
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run if it is not over."""
        self._run.lost(exc)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Run:
    """One run of a load, from the first request to the last answer."""

    def __init__(self, load: Load) -> None:
        self.request = load.request
        self.latencies: list[float] = []
        self._load = load
        self._left = load.calls
        self._idle: deque[Connection] = deque()
        #: Requests that are due and have no client that could send them.
        self._late: deque[float] = deque()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> dict[str, Any]:
        """Ask all, and return how long that and each answer took."""
        loop = asyncio.get_running_loop()
        address = urlsplit(self._load.url)
        connections = []
        for _ in range(self._load.clients):
            _, connection = await loop.create_connection(
                lambda: Connection(self), address.hostname or "", address.port or 80
            )
            connections.append(connection)
        began = time.perf_counter()
        if self._load.rate is None:
            for connection in connections:
                self._next(connection)
        else:
            self._idle.extend(connections)
            await self._ask_at(self._load.rate, began)
        async with asyncio.timeout(STALL_S + self._load.calls / (self._load.rate or 50)):
            await self._over
        seconds = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return {"seconds": seconds, "latencies": self.latencies}

    async def _ask_at(self, rate: float, began: float) -> None:
        for number in range(self._load.calls):
            due = began + number / rate
            if (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            self._late.append(due)
            self._give()

    def _give(self) -> None:
        while self._late and self._idle:
            self._idle.popleft().ask(self._late.popleft())

    def _next(self, connection: Connection) -> None:
        if self._left > 0:
            self._left -= 1
            connection.ask(time.perf_counter())

    def answered(self, connection: Connection, answer: bytes, latency: float) -> None:
        """Note a latency, and let the client go on."""
        if self._over.done():
            return
        if not self._is_right(answer):
            self._over.set_exception(RuntimeError(f"answered {answer[:500]!r}"))
            return
        self.latencies.append(latency)
        if len(self.latencies) == self._load.calls:
            self._over.set_result(None)
        elif self._load.rate is None:
            self._next(connection)
        else:
            self._idle.append(connection)
            self._give()

    def _is_right(self, answer: bytes) -> bool:
        load = self._load
        return answer.startswith(load.expect) and answer.count(load.every) >= load.times

    def lost(self, why: Exception | None) -> None:
        """A server hung up."""
        if not self._over.done():
            self._over.set_exception(ConnectionError(f"the server hung up: {why}"))


def begin(load: Load, python: str = sys.executable) -> subprocess.Popen[bytes]:
    """Start a load in a process of its own; ``result`` waits for its end."""
    command = [python, "-P", "-m", "benchmarks.load"]
    client = subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if client.stdin is not None:
        # By the first line, for a command line may not hold a megabyte.
        plain = {
            name: value.decode("latin-1") if isinstance(value, bytes) else value
            for name, value in asdict(load).items()
        }
        client.stdin.write(json.dumps(plain).encode() + b"\n")
        client.stdin.flush()
    return client


def result(client: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what a load measured: ``seconds`` in all, and the ``latencies`` in seconds.

    Raises:
        RuntimeError: it got a wrong answer, or none.
    """
    out, err = client.communicate()
    if client.returncode:
        raise RuntimeError(err.decode()[-2000:])
    found: dict[str, Any] = json.loads(out)
    return found


def measure(load: Load, python: str = sys.executable) -> dict[str, Any]:
    """Run a load in a process of its own, to its end."""
    return result(begin(load, python))


def main() -> None:
    """Run the load that stdin says, and print what was measured as JSON."""
    given = json.loads(sys.stdin.readline())
    for name in ("body", "expect", "every"):
        given[name] = given[name].encode("latin-1")
    load = Load(**given)

    async def run() -> dict[str, Any]:
        return await Run(load).run()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
