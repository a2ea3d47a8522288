"""The shipped double of a sandbox: real in everything but that it runs no user code.

Its agent is a forked process that speaks the whole protocol, so that a worker or a loop can
be tested without confinement, installers or interpreters. It answers by rules; params that
are a JSON object may ask for one:

* ``sleep_s``: it answers after so many seconds; until then it can be killed;
* ``stderr``: this text is what the call logged;
* ``fail``: the call ends FAILED (``raised``) with this text;
* ``die``: the whole sandbox ends, as if PID 1 had been killed;
* ``deaf``: it never answers, and does not obey a kill either;
* ``garble``: it breaks the protocol;
* ``last``: it answers, and then the whole sandbox ends.

Everything else is DONE with the params as its result. A ``dependencies`` command that holds
the word ``fail`` fails, an ``entry`` of ``missing`` is not found.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from miniworker import kernel, processes
from miniworker.agent import PROTOCOL
from miniworker.sandbox import SOCKET_NAME, Plan

_LENGTHS: Final = struct.Struct(">II")


class FakeSandbox:
    """A process that answers as an agent would."""

    is_left = False
    line = None

    def __init__(self, plan: Plan, settings: Mapping[str, str]) -> None:
        self._socket = plan.sockets / SOCKET_NAME
        self._settings = settings
        self._bundle = str(plan.bundle)
        self._pid: int | None = None
        self.path = plan.spec.runtime.path
        self.env: Mapping[str, str] = {"PATH": "/usr/bin:/bin"}

    def __repr__(self) -> str:
        return f"<FakeSandbox, pid {self._pid}>"

    @property
    def bundle(self) -> str:
        """Return the bundle's folder, which nobody looks into."""
        return self._bundle

    def start(self) -> None:
        """Fork the agent's double."""
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            with contextlib.suppress(OSError):
                _run(self._socket, parent)
            os._exit(0)

    def adopt(self, plan: Plan) -> None:
        """Take this bundle for its own."""
        self._bundle = str(plan.bundle)

    def has_ended(self) -> bool:
        """Return whether the double has ended."""
        if self._pid is None:
            return True
        if os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            return False
        self._pid = None
        return True

    def kill(self) -> None:
        """End the double."""
        if self._pid is not None:
            processes.kill(self._pid)
            os.waitpid(self._pid, 0)
            self._pid = None

    def collect(self) -> None:
        """Do nothing: it was built in place."""

    def out_of_memory(self) -> bool:
        """Return False: nothing is counted here."""
        return False

    def remove(self) -> None:
        """Leave nothing, because there is nothing."""


def _run(path: Path, parent: int) -> None:
    kernel.die_with_parent()
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # By its name alone: an address holds 108 bytes, and folders may be deeper.
    os.chdir(path.parent)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.connect(path.name)
    data = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    data.connect(path.name)
    _Agent(control, data).serve()


class _Agent:
    """The double's side of the two connections, one attempt at a time."""

    def __init__(self, control: socket.socket, data: socket.socket) -> None:
        self._control = control
        self._data = data

    def serve(self) -> None:
        """Say hello, get ready, answer calls until a connection ends."""
        _send(self._control, {"type": "hello", "protocol": PROTOCOL, "pid": 1, "mark": False})
        init, _ = _receive(self._control)
        if init["entry"] == "missing":
            broken = {"type": "broken", "fault": "function", "code": "entry_not_found"}
            _send(self._control, {**broken, "message": "there is no entry 'missing'"})
            return
        _send(self._control, {"type": "ready"})
        while True:
            readable, _, _ = select.select([self._control, self._data], [], [])
            if self._control in readable:
                # A kill of what has ended already; or the end.
                _receive(self._control)
            elif "fail" in init["run"] and init["path"] == init["bundle"]:
                self._answer(_receive(self._data)[0], {"fail": "as the command says"}, b"")
            else:
                call, params = _receive(self._data)
                self._answer(call, _rules(params), params)

    def _answer(self, call: dict[str, Any], rules: dict[str, Any], params: bytes) -> None:
        attempt = call["attempt"]
        if rules.get("die"):
            os._exit(9)
        if rules.get("garble"):
            self._data.sendall(b"\xff" * 64)
        if rules.get("deaf"):
            signal.pause()
        log = str(rules.get("stderr", "")).encode()
        if self._is_killed(attempt, float(rules.get("sleep_s", 0))):
            exit_ = {"type": "exit", "attempt": attempt, "began": True}
            _send(self._control, {**exit_, "sizes": [0, len(log)]}, log)
            return
        _send(self._data, *_result(attempt, rules, params, log))
        if rules.get("last"):
            os._exit(0)

    def _is_killed(self, attempt: int, sleep_s: float) -> bool:
        end = time.monotonic() + sleep_s
        while select.select([self._control], [], [], max(0.0, end - time.monotonic()))[0]:
            if _receive(self._control)[0].get("attempt") == attempt:
                return True
        return False


def _result(
    attempt: int, rules: dict[str, Any], params: bytes, log: bytes
) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {"type": "result", "attempt": attempt}
    if "fail" in rules:
        header |= {"status": "FAILED", "code": "raised", "message": str(rules["fail"])}
        return {**header, "sizes": [0, 0, len(log)]}, log
    return {**header, "status": "DONE", "sizes": [len(params), 0, len(log)]}, params + log


def _rules(params: bytes) -> dict[str, Any]:
    try:
        rules = json.loads(params)
    except ValueError:
        return {}
    return rules if isinstance(rules, dict) else {}


def _send(connection: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    packed = json.dumps(header).encode()
    connection.sendall(_LENGTHS.pack(len(packed), len(body)) + packed + body)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    header, body = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    message: dict[str, Any] = json.loads(_exactly(connection, header))
    return message, _exactly(connection, body)


def _exactly(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes; end the process at the end of the connection."""
    data = b""
    while len(data) < size:
        more = connection.recv(min(size - len(data), 1 << 20))
        if not more:
            os._exit(0)
        data += more
    return data
