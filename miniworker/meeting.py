"""How a miniworker and an agent meet: a socket, two connections, hello, init, ready.

All of this happens before any code of the function is in the sandbox; the socket is removed
as soon as both connections are there.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from miniworker import agent
from miniworker.channel import Channel
from miniworker.mark import Mark
from miniworker.sandbox import SOCKET_NAME, NoSandbox, Plan, Sandbox
from wire.errors import ProtocolError
from wire.models import Fault

#: Python's own start is far below; an engine's cold image is not counted here.
START_S: Final = 15.0
#: After that the agent may load a function, and gives up by itself before this.
LOAD_S: Final = 50.0
LOOK_S: Final = 0.05
#: A connection ends a little before the sandbox that it leads to.
END_S: Final = 2.0
#: Of what a function that cannot be loaded printed, so much of the end is passed on.
LOG_BYTES: Final = 16 << 10


class Meeting:
    """The listening socket of one sandbox, until its agent is ready."""

    def __init__(self, plan: Plan, limits: agent.Limits) -> None:
        self._limits = limits
        plan.sockets.mkdir(parents=True, exist_ok=True)
        # The folder must be passable for a sandbox's user, the socket writable by it.
        plan.sockets.chmod(0o711)
        self._path = plan.sockets / SOCKET_NAME
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _bind(self._listener, self._path)
        self._path.chmod(0o666)
        self._listener.listen(2)

    def accept(self, sandbox: Sandbox) -> tuple[Channel, Channel]:
        """Return the control and the data connection; one is both where the driver made it.

        Raises:
            NoSandbox: the agent has not come, or has ended.
        """
        if sandbox.line is not None:
            self.close()
            both = Channel(sandbox.line, self._limits)
            return both, both
        limit = time.monotonic() + START_S
        control = Channel(self._one(sandbox, limit), self._limits)
        try:
            data = Channel(self._one(sandbox, limit), self._limits)
        except NoSandbox:
            control.close()
            raise
        self.close()
        return control, data

    def close(self) -> None:
        """Stop listening and remove the socket; nobody else shall connect."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _one(self, sandbox: Sandbox, limit: float) -> socket.socket:
        await_readable(self._listener.fileno(), limit, sandbox.has_ended)
        return self._listener.accept()[0]


def greet(control: Channel, sandbox: Sandbox) -> agent.Hello:
    """Hear the agent's first word.

    Raises:
        NoSandbox: it ends, or is silent, or talks nonsense.
    """
    try:
        hello, _ = _answer(control, START_S, sandbox)
    except EOFError as error:
        _await_end(sandbox)
        raise _unready(error) from error
    if not isinstance(hello, agent.Hello) or hello.protocol != agent.PROTOCOL:
        raise NoSandbox(f"the agent speaks another protocol: {hello!r:.200}")
    return hello


def agree(control: Channel, init: agent.Init, mark: Mark | None, sandbox: Sandbox) -> None:
    """Say what the sandbox is for and wait until it is ready.

    Raises:
        NoSandbox: the agent says that it cannot, or ends, or is silent, or talks nonsense.
    """
    control.send(init, descriptors=[mark.fd] if mark is not None else [])
    try:
        answer, body = _answer(control, LOAD_S, sandbox)
    except EOFError as error:
        raise _unready(error) from error
    if isinstance(answer, agent.Broken):
        log = body[-LOG_BYTES:].decode(errors="replace")
        raise NoSandbox(answer.message, fault=Fault(answer.fault), code=answer.code, log=log)
    if not isinstance(answer, agent.Ready):
        raise NoSandbox(f"the agent said {type(answer).__name__} instead of ready")


def _answer(
    control: Channel, within_s: float, sandbox: Sandbox
) -> tuple[agent.FromAgent, bytes]:
    limit = time.monotonic() + within_s
    while True:
        try:
            frames = _heard(control, limit, sandbox)
        except ProtocolError as error:
            raise _unready(error) from error
        if len(frames) > 1:
            raise NoSandbox("the agent talks without being asked")
        if frames:
            return frames[0]


def _heard(
    control: Channel, limit: float, sandbox: Sandbox
) -> list[tuple[agent.FromAgent, bytes]]:
    """Wait for what the agent says; its last words count more than how its sandbox ended."""
    try:
        await_readable(control.fileno(), limit, sandbox.has_ended)
    except NoSandbox:
        # They may have come while an engine was asked.
        if last := control.read_last():
            return last
        raise
    control.flush()
    return control.read()


def _unready(error: Exception) -> NoSandbox:
    return NoSandbox(f"the agent ended before it was ready: {error}")


def _await_end(sandbox: Sandbox) -> None:
    """Let a sandbox say what it knows of its end, where no agent has said a word."""
    limit = time.monotonic() + END_S
    while not sandbox.has_ended() and time.monotonic() < limit:
        time.sleep(LOOK_S)


def await_readable(fd: int, limit: float, has_ended: Callable[[], bool]) -> None:
    """Wait for bytes (or a connection); raise ``NoSandbox`` if none can come any more."""
    while not select.select([fd], [], [], LOOK_S)[0]:
        # What it said last may have come since: one that cannot get ready says so, and ends.
        if has_ended() and not select.select([fd], [], [], 0)[0]:
            raise NoSandbox(
                "the sandbox ended before its agent was ready",
                hint="the worker's log has what it printed",
            )
        if time.monotonic() >= limit:
            raise NoSandbox("the agent was not ready in time")


def _bind(listener: socket.socket, path: Path) -> None:
    # sockaddr_un holds 108 bytes; by way of the folder's descriptor any depth will do.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
