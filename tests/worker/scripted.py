"""An api by script: real sockets, real frames, and a test that decides every answer."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import zmq

from tests.conftest import soon
from tests.packing import zipped
from wire import messages as m
from wire import sockets
from wire.codec import FRAMES, Message, encode
from wire.models import Function, Item, Package, Runtime

ROOT = Path(__file__).parents[2]
M = TypeVar("M", bound=Message)
EPOCH = "store-1"


def package(content: bytes = b"print(1)") -> bytes:
    return zipped({"test.py": content})


def items(
    data: bytes,
    *,
    name: str = "echo",
    seq: int = 1,
    dependencies: str = "",
    **settings: Any,
) -> tuple[Item, ...]:
    """Return a runtime and a function of it, at two places of the order."""
    runtime = Runtime(
        name="python", image="python", path="/ws", dependencies=dependencies,
        run="python3 test.py", agent="python", revision=1,
    )  # fmt: skip
    sha = hashlib.sha256(data).hexdigest()
    function = Function(
        function_name=name, runtime_name="python", revision=1,
        package=Package(sha256=sha, size=len(data), originalname="p.zip"), **settings,
    )  # fmt: skip
    return Item(seq=seq, runtime=runtime), Item(seq=seq + 1, function=function)


KEY = "default/echo@1.1"


class ScriptedApi:
    """A ROUTER and a PUB; keeps what it was told, in order, and whom it was told by."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*", pub: str = "tcp://127.0.0.1:*"):
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = sockets.open_socket(self.context, zmq.ROUTER)
        self.endpoint = sockets.bind(router, endpoint)
        self.publisher = sockets.open_socket(self.context, zmq.PUB)
        self.pub = sockets.bind(self.publisher, pub)
        self.link = sockets.Link(router, 1 + FRAMES, self._read)
        self.log: list[tuple[Message, bytes]] = []
        self.peer = b""
        self.session = 0
        self.packages: dict[str, bytes] = {}
        self.answers_fetch = True

    def close(self) -> None:
        self.link.close()
        self.publisher.close()
        self.context.term()

    def _read(self, frames: list[bytes]) -> None:
        message, payload = m.FROM_WORKER.decode(frames[1:])
        self.peer = frames[0]
        self.log.append((message, payload))
        if isinstance(message, m.Result) and message.credit is not None:
            self.log.append((message.credit, b""))
        if isinstance(message, m.Fetch) and self.answers_fetch:
            self.feed(message)

    def say(self, message: Message, payload: bytes = b"") -> None:
        self.link.send([self.peer, *encode(message, payload)])

    def say_who(self) -> None:
        """Know nobody."""
        self.log.clear()
        self.say(m.Who())

    def publish(self, topic: bytes, message: Message) -> None:
        self.publisher.send_multipart([topic, *encode(message)])

    def of(self, kind: type[M]) -> list[M]:
        return [message for message, _ in self.log if isinstance(message, kind)]

    async def get(self, kind: type[M], count: int = 1) -> M:
        """Wait until there were so many of a kind; return the last one of them."""
        await soon(
            lambda: len(self.of(kind)) >= count,
            what=f"{kind.__name__} number {count}",
        )
        return self.of(kind)[count - 1]

    async def welcome(self, *catalogue: Item, session: int = 1) -> m.Hello:
        """Take the next HELLO and open this session with a snapshot."""
        hello = await self.get(m.Hello)
        self.log = [pair for pair in self.log if not isinstance(pair[0], m.Hello)]
        self.session = session
        seq = max((item.seq for item in catalogue), default=0)
        self.say(m.Welcome(session=session, api="api", epoch=EPOCH, seq=seq))
        self.say(m.Catalogue(session=session, epoch=EPOCH, after=0, seq=seq, items=catalogue))
        return hello

    def beat(self, seq: int = 2, received: int = 0) -> None:
        self.say(m.ApiHeartbeat(session=self.session, epoch=EPOCH, seq=seq, received=received))

    def feed(self, fetch: m.Fetch, data: bytes | None = None) -> None:
        """Answer a FETCH, up to its credit, from what is there."""
        content = self.packages[fetch.key] if data is None else data
        end = min(len(content), fetch.offset + fetch.credit)
        for at in range(fetch.offset, max(end, fetch.offset + 1), m.CHUNK_BYTES):
            chunk = m.Chunk(
                session=self.session, what=fetch.what, key=fetch.key, offset=at,
                total=len(content),
            )  # fmt: skip
            self.say(chunk, content[at : min(at + m.CHUNK_BYTES, end)])

    def prepare(self, call: int, attempt: int = 1, key: str = KEY) -> None:
        self.say(
            m.Prepare(
                session=self.session, call=call, attempt=attempt, key=key, budget_ms=60_000
            )
        )

    def start(
        self,
        call: int,
        params: object = None,
        *,
        attempt: int = 1,
        key: str = KEY,
        timeout_ms: int = 5000,
        raw: bytes | None = None,
    ) -> None:
        payload = json.dumps(params or {}).encode() if raw is None else raw
        inline = payload if len(payload) <= m.INLINE_BYTES else b""
        if not inline:
            self.packages[f"{call}.{attempt}"] = payload
        start = m.Start(
            session=self.session, call=call, attempt=attempt, key=key, timeout_ms=timeout_ms,
            size=len(payload), record=b'{"callNum":%d}' % call,
        )  # fmt: skip
        self.say(start, inline)

    def ends(self) -> list[m.Result]:
        return [result for result in self.of(m.Result) if result.outcome]

    async def end(self, call: int) -> tuple[m.Result, bytes]:
        """Wait for the end of a call; return it with all payload that came for it."""
        await soon(
            lambda: any(r.call == call for r in self.ends()), what=f"the end of call {call}"
        )
        parts = [
            (message, payload)
            for message, payload in self.log
            if isinstance(message, m.Result) and message.call == call
        ]
        return parts[-1][0], b"".join(payload for _, payload in parts)

    async def call(self, call: int, params: object = None) -> tuple[m.Result, bytes]:
        """PREPARE, READY, START, and its end."""
        self.prepare(call)
        await soon(lambda: any(ready.call == call for ready in self.of(m.Ready)))
        self.start(call, params)
        return await self.end(call)


class Worker:
    """``python -P -m worker`` as a process of its own, with the fake sandbox."""

    def __init__(
        self,
        api: ScriptedApi,
        data: Path,
        *options: str,
        sandbox: str = "fake",
        keep: tuple[int, ...] = (),
        variables: Mapping[str, str] | None = None,
    ):
        reader, writer = os.pipe()
        env = {key: value for key, value in os.environ.items() if key[:5] != "SKEP_"}
        env |= {"PYTHONPATH": str(ROOT), **(variables or {})}
        self.log = (data / "worker.log").open("ab")
        command = [
            sys.executable, "-P", "-m", "worker", "--name", "n1", "--api", api.endpoint,
            "--pub", api.pub, "--sandbox", sandbox, "--ready-fd", str(writer),
            "--slots", "2", "--data", ".", *options,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=env, cwd=data, pass_fds=(writer, *keep), stderr=self.log
        )
        os.close(writer)
        self._reader = reader
        self.ready: dict[str, Any] = {}

    async def started(self) -> dict[str, Any]:
        os.set_blocking(self._reader, False)
        await soon(self._read_ready, what="the worker is ready")
        return self.ready

    def _read_ready(self) -> bool:
        try:
            line = os.read(self._reader, 65536)
        except BlockingIOError:
            return False
        assert line, "the worker ended before it was ready"
        self.ready = json.loads(line)
        return True

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.send(number)
        await soon(lambda: self.process.poll() is not None, what="the worker ends")
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if not self.log.closed:
            os.close(self._reader)
            self.log.close()


@contextmanager
def node(
    data: Path, *options: str, sandbox: str = "fake"
) -> Iterator[tuple[ScriptedApi, Worker]]:
    """Give an api by script and a worker that joins it."""
    data.mkdir(exist_ok=True)
    api = ScriptedApi()
    worker = Worker(api, data, *options, sandbox=sandbox)
    try:
        yield api, worker
    finally:
        worker.close()
        api.close()
