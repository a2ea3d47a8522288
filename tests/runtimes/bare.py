"""An agent without a sandbox around it, as its miniworker sees it: two channels and a mark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from miniworker import agent
from miniworker.mark import Mark
from miniworker.meeting import Meeting, agree, await_readable, greet
from miniworker.sandbox import SOCKET_NAME, Plan
from tests.miniworker.rig import spec

FILE = Path(__file__).parents[2] / "runtimes" / "python" / "agent.py"
WAIT_S = 20.0


class Bare:
    """A running agent; what it says is read as a miniworker reads it."""

    line = None

    def __init__(self, source: str, entry: str = "hello.main", isolation: str = "none") -> None:
        self._top = Path(tempfile.mkdtemp(prefix="skep-agent-", dir="/tmp"))
        for name in ("bundle", "work", "tmp"):
            (self._top / name).mkdir()
        (self._top / "bundle" / "hello.py").write_text(source)
        plan = Plan(spec=spec(), bundle=self._top / "bundle", folder=self._top)
        limits = agent.Limits()
        self.work = self._top / "work"
        self.mark = Mark()
        meeting = Meeting(plan, limits)
        command = [sys.executable, str(FILE), str(plan.sockets / SOCKET_NAME)]
        own = {**os.environ, "TMPDIR": str(self._top / "tmp")}
        self.process = subprocess.Popen(command, env=own)
        self.control, self.data = meeting.accept(self)  # type: ignore[arg-type]
        init = agent.Init(
            path=str(self.work),
            bundle=str(plan.bundle),
            run="python3 hello.py",
            entry=entry,
            isolation=isolation,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(self._top / "tmp")},
            limits=limits,
        )
        hello = greet(self.control, self)  # type: ignore[arg-type]
        assert hello.mark
        assert hello.ahead
        agree(self.control, init, self.mark, self)  # type: ignore[arg-type]

    def has_ended(self) -> bool:
        """As a sandbox says it."""
        return self.process.poll() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self.control.close()
        self.data.close()
        self.mark.close()
        if kind is not None:
            self.process.kill()
        assert self.process.wait(WAIT_S) == 0 or kind is not None
        shutil.rmtree(self._top)

    def call(self, attempt: int, params: bytes = b"{}") -> None:
        """Send a call."""
        env = {"SKEP_CALL": str(attempt)}
        message = agent.Call(call=attempt, attempt=attempt, timeout_ms=5000, env=env)
        self.data.send(message, params)

    def kill(self, attempt: int) -> None:
        """Order the end of a call."""
        self.control.send(agent.Kill(attempt=attempt))

    def hear(self, channel: Any) -> list[tuple[Any, bytes]]:
        """Return what comes next on a connection."""
        frames: list[tuple[Any, bytes]] = []
        while not frames:
            channel.flush()
            await_readable(channel.fileno(), time.monotonic() + WAIT_S, lambda: False)
            frames = channel.read()
        return frames
