"""Builds with a real zygote and real miniworkers, one of which hears nothing any more."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import zmq

from tests.conftest import children, soon
from wire import jobs
from wire.codec import Message, Payload
from wire.models import Function, Runtime, Spec
from worker.builds import Builds
from worker.folder import NodeFolder
from worker.minis import Minis
from worker.sandbox import SandboxKind

SPEC = Spec(
    function=Function(function_name="f", runtime_name="r"),
    runtime=Runtime(name="r", image="r", path="/ws", dependencies="true"),
)


async def test_one_that_does_not_leave_when_asked_is_killed() -> None:
    # Short, for there are sockets in it.
    with tempfile.TemporaryDirectory(dir="/tmp") as data:
        folder = NodeFolder(Path(data), "n", "boot1234")
        folder.open()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        exits: list[str] = []
        stopped: list[int] = []

        def said(name: str, message: Message, _: Payload) -> None:
            if isinstance(message, jobs.Built):
                # It has said its last word, and will not hear STOP.
                (pid,) = children() - zygote
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
            builds.heard(name, message)

        def gone(name: str, why: str, _: int | None) -> None:
            exits.append(why)
            builds.exited(name, why)

        kind = SandboxKind(driver="fake", isolation="")
        minis = Minis(context, folder, kind, said, lambda _: None, gone, [])
        builds = Builds(minis, 60, {})
        before = children()
        minis.start()
        zygote = children()
        assert len(zygote - before) == 1
        try:
            built = await builds.build(SPEC, Path(data), lambda _: None)
            assert built.reason is None
            assert len(stopped) == 1
            await soon(lambda: exits, what="it is killed")
            assert exits == [f"its miniworker was ended by signal {signal.SIGKILL.value}"]
        finally:
            await minis.close()
            folder.close()
            context.term()
