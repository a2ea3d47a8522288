"""Where a function's calls are tried: one sandbox at a time, replaced when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import engine
from tests.miniworker.rig import Mini, Rig, is_zombie, spec
from tests.runtimes.languages import Language
from wire import jobs
from wire.codec import Message
from wire.messages import Outcome
from wire.models import Reason

POLL_MS = 100
#: Outcome, result, stdout, stderr.
Ended = tuple[Outcome, bytes, str, str]
CANCELLED = Reason(code="cancelled", message="by its caller")


class Place:
    """A function in a sandbox, as its worker would keep it: there is always one to call."""

    def __init__(
        self, rig: Rig, language: Language, files: dict[str, str], **more: Any
    ) -> None:
        self._rig = rig
        image = f"{engine.IMAGES}/{language.name}"
        given = {"agent": language.name, "run": "", "image": image}
        runtime = given | more.pop("runtime", {})
        self._spec = spec(runtime=runtime, **more)
        self._bundle = rig.bundle(files)
        self._mini: Mini | None = None
        #: How many sandboxes it took.
        self.sandboxes = 0

    def open(self) -> Any:
        """Make a sandbox; return READY or BROKEN."""
        self._mini = self._rig.spawn()
        self.sandboxes += 1
        return self._mini.specialise(self._spec, self._bundle)

    def call(self, params: Any = None, timeout_ms: int = 20_000) -> Ended:
        """Run a call; where the sandbox has ended before it began, in another one."""
        return self._run(params, timeout_ms, cancel=False)

    def cancelled(self, params: Any = None) -> Ended:
        """Run a call and cancel it once it has begun."""
        return self._run(params, 20_000, cancel=True)

    def _run(self, params: Any, timeout_ms: int, *, cancel: bool) -> Ended:
        text = params if isinstance(params, bytes) else json.dumps(params).encode()
        for _ in range(3):
            if self._mini is None:
                ready = self.open()
                assert isinstance(ready, jobs.Ready), ready
            assert self._mini is not None
            self._mini.job(1, text, timeout_ms)
            if cancel:
                self._await_begin(self._mini)
                self._mini.send(jobs.Cancel(call=1, attempt=1, reason=CANCELLED))
            answer = self._answer(self._mini)
            if answer is not None:
                return answer
            self._mini = None
        raise AssertionError("three sandboxes in a row ended before a call began")

    def _await_begin(self, mini: Mini) -> None:
        # Its first heartbeat comes a second after it was handed to the agent.
        while not isinstance(self._rig.recv(mini.route)[0], jobs.Heartbeat):
            pass

    def _answer(self, mini: Mini) -> Ended | None:
        while True:
            message, payload = self._next(mini)
            if isinstance(message, jobs.Done):
                result, out, _ = message.sizes
                rest = payload[result:]
                logs = rest[:out].decode(), rest[out:].decode()
                return message.outcome, payload[:result], *logs
            if not isinstance(message, jobs.Heartbeat):
                return None

    def _next(self, mini: Mini) -> tuple[Message | None, bytes]:
        while not self._rig.has(mini.route, POLL_MS):
            if not Path(f"/proc/{mini.pid}").exists() or is_zombie(mini.pid):
                return None, b""
        return self._rig.recv(mini.route)

    def inside(self) -> set[int]:
        """Return the processes of its sandbox, as this host numbers them."""
        assert self._mini is not None
        return self._rig.inside(self._mini)

    def processes(self, program: str) -> list[int]:
        """Return the processes of this program that come of its sandbox."""
        living = [pid for pid in self.inside() if not is_zombie(pid)]
        return [pid for pid in living if _name(pid) == program]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
