"""A DB node as its own process, and a plain REQ socket to ask it with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from wire import codec

ROOT = Path(__file__).parents[2]
ANSWER_MS = 20_000


class Refused(Exception):
    """The DB node answered an error."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.hint = error["hint"]


class Asker:
    """A plain REQ socket, as anybody may use it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, ANSWER_MS)
        self.socket.connect(endpoint)

    def raw(self, frame: bytes) -> bytes:
        self.socket.send(frame)
        return self.socket.recv()

    def ask(self, msg_type: str, *, packed: bool = False, **content: Any) -> Any:
        asked = {"msgType": msg_type, "content": content}
        if packed:
            reply: Any = codec.unpack(self.raw(codec.pack(asked)))
        else:
            reply = json.loads(self.raw(json.dumps(asked).encode()))
        if not reply["ok"]:
            raise Refused(reply["error"])
        return reply["content"]


@contextmanager
def asker(endpoint: str) -> Iterator[Asker]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Asker(context, endpoint)
    try:
        yield made
    finally:
        made.socket.close()
        context.destroy(linger=0)


def start(
    folder: Path, *options: str, keep: tuple[int, ...] = ()
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a DB node in a folder; return it and its endpoint once it serves."""
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "dbnode", "--ready-fd", str(writing)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SKEP_BIND": "tcp://127.0.0.1:0"}
    process = subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env=environment,
        pass_fds=[writing, *keep],
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    with os.fdopen(reading) as ready:
        line = ready.readline()
    if not line:
        _, errors = process.communicate()
        raise RuntimeError(errors.decode())
    return process, json.loads(line)["endpoint"]


def end(process: subprocess.Popen[bytes]) -> int:
    """Stop it in order and return its status."""
    process.terminate()
    process.communicate()
    return process.returncode


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Asker]:
    process, endpoint = start(folder, *options)
    try:
        with asker(endpoint) as made:
            yield made
    finally:
        assert end(process) == 0


def plain_record(num: int = 1, rev: int = 1, epoch: int = 1, **call: Any) -> dict[str, Any]:
    """Return a record as an outsider writes it."""
    return {
        "call": {
            "funcName": "dice",
            "params": {"roll": "4d6"},
            "callNum": num,
            "id": f"u{num}",
            "runtimeName": "py",
            "revision": 1,
            "acceptedAt": "2026-01-01T00:00:00.000Z",
            **call,
        },
        "rev": rev,
        "api": "api",
        "epoch": epoch,
        "runtimeRevision": 1,
        "timeoutMs": 5000,
        "maxWaitMs": 600_000,
    }
