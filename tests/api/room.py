"""The api's surroundings in tests: a real DB node, a real api, workers that speak by script."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import aiohttp
import zmq

from tests.conftest import soon
from tests.packing import tar_gz
from wire import codec
from wire.codec import Message
from wire.messages import (
    FROM_API,
    ApiHeartbeat,
    Bye,
    Catalogue,
    Credit,
    Hello,
    Outcome,
    Result,
    Start,
    Warm,
    Welcome,
    WorkerHeartbeat,
)
from wire.models import Status
from wire.sockets import Link, open_socket

ROOT = Path(__file__).resolve().parents[2]
M = TypeVar("M", bound=Message)
DICE = "default/dice@1.1"


class Process:
    """A process of skep that was started and has said where it serves."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        tree: Path = ROOT,
        within: Sequence[str] = (),
        paths: Sequence[Path] = (),
    ) -> None:
        """Start it from a tree, behind other words of a command, with paths before that."""
        read, write = os.pipe()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SKEP_")}
        self._popen = subprocess.Popen(
            [*within, sys.executable, "-P", "-m", *arguments, "--ready-fd", str(write)],
            cwd=cwd,
            env=environment | {"PYTHONPATH": ":".join(map(str, (*paths, tree)))},
            pass_fds=(write,),
        )
        os.close(write)
        self._read = read
        self.facts: dict[str, Any] = {}

    async def ready(self) -> None:
        line = await asyncio.to_thread(self._line)
        assert line, f"{self._popen.args!r} ended: {self._popen.poll()}"
        self.facts = json.loads(line)

    def _line(self) -> bytes:
        with os.fdopen(self._read, "rb") as file:
            return file.readline()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int | None:
        return self._popen.poll()

    def end(self, number: int = signal.SIGTERM) -> int:
        self._popen.send_signal(number)
        return self._popen.wait(20)


class Room:
    """One api and its DB node on relative ipc sockets and a free port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        #: What is started runs this release.
        self.tree = ROOT
        #: Of the api.
        self.data = folder / "api"
        #: Words of a command before the api's own.
        self.within: Sequence[str] = ()
        self.db: Process | None = None
        self.api: Process | None = None
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.workers: list[ScriptedWorker] = []
        self._http: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        assert self.api is not None
        return str(self.api.facts["url"])

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    async def start_db(self) -> None:
        self.db = Process(
            "dbnode", "--bind", f"ipc://{self.folder}/db", "--store", f"tinydb:{self.folder}/s",
            cwd=self.folder, tree=self.tree,
        )  # fmt: skip
        await self.db.ready()

    async def start_api(self) -> None:
        ipc = f"ipc://{self.folder}"
        self.api = Process(
            "api", "--port", "0", "--db", f"{ipc}/db", "--data", str(self.data),
            "--workers-bind", f"{ipc}/workers", "--pub-bind", f"{ipc}/pub", *self.options,
            cwd=self.folder, tree=self.tree, within=self.within,
        )  # fmt: skip
        await self.api.ready()

    async def start(self) -> None:
        await self.start_db()
        await self.start_api()
        self._http = aiohttp.ClientSession()

    async def close(self) -> None:
        for worker in self.workers:
            worker.close()
        if self._http is not None:
            await self._http.close()
        for process in (self.api, self.db):
            if process is not None and process.status is None:
                with suppress(ProcessLookupError):
                    await asyncio.to_thread(process.end)
        self.context.term()

    async def worker(self, name: str = "node1", **hello: Any) -> ScriptedWorker:
        worker = ScriptedWorker(self.context, f"ipc://{self.folder}/workers", name, **hello)
        self.workers.append(worker)
        await worker.join()
        return worker

    async def ask(
        self, method: str, path: str, json_body: Any = None, **more: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Return status, decoded body and the response itself."""
        if json_body is not None:
            more["json"] = json_body
        async with self.http.request(method, self.url + path, **more) as response:
            text = await response.text()
        with suppress(ValueError):
            return response.status, json.loads(text), response
        return response.status, text, response

    async def register(self, name: str = "dice", **fields: str) -> None:
        body = {"image": "pythonruntime", "path": "/ws", "run": "python3 test.py"}
        status, _, _ = await self.ask("POST", "/registerRuntime", body)
        assert status in (200, 201)
        form = aiohttp.FormData(fields)
        form.add_field("module", package(), filename="python.tar.gz")
        status, answer, _ = await self.ask(
            "POST", f"/registerFunction/pythonruntime/{name}", data=form
        )
        assert status in (200, 201), answer

    async def invoke(self, query: str = "", **more: Any) -> tuple[int, Any]:
        body = {"funcName": "dice", "params": {"roll": "4d6"}, **more}
        status, answer, _ = await self.ask("POST", f"/invokeFunction{query}", body)
        return status, answer


@asynccontextmanager
async def open_room(*options: str) -> AsyncIterator[Room]:
    folder = Path(tempfile.mkdtemp(prefix="skep-api-", dir="/tmp"))
    room = Room(folder, *options)
    try:
        await room.start()
        yield room
    finally:
        await room.close()
        shutil.rmtree(folder)


class ScriptedWorker:
    """A worker that says what it is told to, on a real DEALER."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        name: str,
        *,
        node_id: str = "",
        boot: str = "boot1",
        slots: int = 4,
        running: Sequence[tuple[int, int]] = (),
        number: int = 0,
        token: str = "",
        version: str = "0",
        sandbox: Literal["docker", "process", "fake"] = "fake",
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._socket = open_socket(context, zmq.DEALER)
        self._socket.connect(endpoint)
        self._link = Link(self._socket, codec.FRAMES, self._on_message)
        self.hello = Hello(
            node_id=node_id or f"id-{name}",
            boot=boot,
            name=name,
            pid=os.getpid(),
            version=version,
            slots=slots,
            sandbox=sandbox,
            labels=dict(labels),
            isolation="none: a test",
            running=tuple(running),
            number=number,
            token=token,
        )
        self.session = 0
        self.inbox: list[tuple[Message, bytes]] = []
        self.seen = 0
        self.ends = 0
        self._pulse: asyncio.Task[None] | None = None

    async def join(self) -> None:
        self.send(self.hello)
        welcome, _ = await self.next(Welcome)
        self.session = welcome.session
        await self.next(Catalogue)
        self._pulse = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while True:
            self.heartbeat()
            await asyncio.sleep(1)

    def heartbeat(self, **more: Any) -> None:
        self.send(
            WorkerHeartbeat(
                session=self.session, seen=0, received=0, running=0, sandboxes=0, **more
            )
        )

    def send(self, message: Message, payload: bytes = b"") -> None:
        self._link.send(codec.encode(message, payload))

    def send_raw(self, *frames: bytes) -> None:
        self._link.send(frames)

    def _on_message(self, frames: list[bytes]) -> None:
        message, payload = FROM_API.decode(frames)
        if not isinstance(message, ApiHeartbeat):
            self.inbox.append((message, payload))

    def take(self, kind: type[M]) -> tuple[M, bytes] | None:
        for index, (message, payload) in enumerate(self.inbox):
            if isinstance(message, kind):
                del self.inbox[index]
                return message, payload
        return None

    async def next(self, kind: type[M]) -> tuple[M, bytes]:
        found: tuple[M, bytes] = await soon(lambda: self.take(kind), what=kind.__name__)
        return found

    def credit(self, free: int, **warm: int) -> None:
        """Grant ``free`` slots and, under a key's name, idle sandboxes."""
        keys = tuple(Warm(DICE if k == "dice" else k, v) for k, v in warm.items())
        self.send_credit(free, keys)

    def send_credit(self, free: int, warm: Sequence[Warm]) -> None:
        credit = Credit(session=self.session, seen=self.seen, free=free, warm=tuple(warm))
        self.send(credit)

    async def start(self) -> tuple[Start, bytes]:
        start, params = await self.next(Start)
        self.seen += 1
        return start, params

    def result(
        self,
        call: int,
        attempt: int,
        result: bytes = b"[4,6,4,3]",
        *,
        outcome: Outcome | None = None,
        stdout: bytes = b"",
        params: bytes = b"",
        record: bytes = b"",
    ) -> int:
        self.ends += 1
        message = Result(
            session=self.session,
            call=call,
            attempt=attempt,
            sizes=(len(params), len(result), len(stdout), 0),
            outcome=outcome or Outcome(status=Status.DONE, duration_ms=3.0, miniworker="m1"),
            number=self.ends,
            record=record,
        )
        self.send(message, params + result + stdout)
        return self.ends

    def leave(self) -> None:
        """Say BYE."""
        if self._pulse is not None:
            self._pulse.cancel()
        self.send(Bye(session=self.session))

    def close(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._link.close()


def package(text: str = "print(1)") -> bytes:
    """Return a tar.gz with one file, as a user would upload."""
    return tar_gz({"test.py": text})
