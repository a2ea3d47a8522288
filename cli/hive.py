"""Runs a plan: starts the children, watches them, stops them. The supervisor decides."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from cli.folder import Folder, LogFile
from cli.life import Life, adopt_orphans, child_pids, reap
from cli.plan import Plan
from cli.screen import Screen
from cli.supervisor import (
    Action,
    AllReady,
    Finished,
    GaveUp,
    Report,
    Send,
    Start,
    State,
    Supervisor,
)
from wire.logs import grave

#: How often logs are looked at and orphans collected, in seconds.
ROUND_S: Final = 0.5
#: How long the orphans of killed children may take to end by themselves.
ORPHANS_S: Final = 5.0
#: What ``Life`` reports for a child that could not even be started.
_NOT_STARTED: Final = 127


class Hive:
    """The running children of one data folder."""

    def __init__(
        self,
        plan: Plan,
        folder: Folder,
        screen: Screen,
        environment: Mapping[str, str],
        supervisor: Supervisor | None = None,
        *,
        orphans_s: float = ORPHANS_S,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._screen = screen
        self._environment = environment
        self._orphans_s = orphans_s
        self._supervisor = supervisor or Supervisor(plan.stages)
        self._lives: dict[str, Life] = {}
        self._logs: dict[str, LogFile] = {}
        #: A pipe for each stage (read end, write end): its children end when it does.
        self._lifelines: list[tuple[int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._not_ours: set[int] = set()
        #: Set when all children are ready, and when all are gone.
        self.is_up = asyncio.Event()
        self.is_down = asyncio.Event()
        self.has_failed = False
        #: How often each child was started, and how often it ended by what.
        self.starts: Counter[str] = Counter()
        self.exits: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """Start the first stage; the rest follows by itself."""
        self._lifelines = [os.pipe() for _ in self._plan.stages]
        adopt_orphans()
        self._not_ours = child_pids()
        self._looking = asyncio.create_task(self._rounds(), name="rounds")
        self._act(self._supervisor.begin(time.monotonic()))

    def ask_to_stop(self) -> None:
        """Stop in order; asked again, kill."""
        if not self._supervisor.is_stopping:
            self._screen.step("skep", "stopping (again Ctrl-C: at once)")
        self._act(self._supervisor.stop(time.monotonic()))

    def ensure_stopping(self) -> None:
        """Stop, unless that has begun."""
        if not self._supervisor.is_stopping:
            self.ask_to_stop()

    async def finish(self) -> None:
        """Wait for the end of all children and of what they left; close everything."""
        try:
            await self.is_down.wait()
            await self._outlive_orphans()
        finally:
            if self._looking is not None:
                self._looking.cancel()
            if self._timer is not None:
                self._timer.cancel()
            for end in chain.from_iterable(self._lifelines):
                os.close(end)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the living children by name."""
        return {name: life.pid for name, life in self._lives.items()}

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._act_one(action)
        self._set_timer()

    def _act_one(self, action: Action) -> None:
        match action:
            case Start(child, first):
                self._start(child, first)
            case Send(child, number, why):
                self._send(child, number, why)
            case Report(child, what, warning):
                self._screen.step(child, what, warning=warning)
            case AllReady():
                self.is_up.set()
            case GaveUp(child, why):
                self._give_up(child, why)
            case Finished():
                self.is_down.set()

    def _start(self, child: str, first: bool) -> None:
        log = self._logs.setdefault(child, self._folder.log_of(child))
        self.starts[child] += 1
        try:
            with log.open() as file:
                self._lives[child] = Life(
                    self._plan.command(child, first=first),
                    folder=self._folder.path,
                    log=file,
                    keep_fds=self._kept_by(child),
                    lifeline=self._lifelines[self._stage_of(child)][0],
                    environment={**self._environment, **self._plan.environment(child)},
                    on_ready=lambda facts: self._on_ready(child, facts),
                    on_exit=lambda status: self._on_exit(child, status),
                )
        except OSError as error:
            self._screen.error(f"{child} cannot be started: {error}")
            loop = asyncio.get_running_loop()
            loop.call_soon(self._on_exit, child, _NOT_STARTED)

    def _kept_by(self, child: str) -> list[int]:
        """Return what a child holds for as long as it lives: lock, earlier stages' lifelines.

        So the stages end in the right order even after SIGKILL of this process: a DB node
        hears of it only when no api is left that has something to record.
        """
        lock = [self._folder.lock_fd] if self._folder.is_held else []
        return lock + [write for _, write in self._lifelines[: self._stage_of(child)]]

    def _stage_of(self, child: str) -> int:
        return next(n for n, stage in enumerate(self._plan.stages) if child in stage)

    def _send(self, child: str, number: signal.Signals, why: str) -> None:
        self._screen.step(child, why, warning=number is signal.SIGKILL)
        if (life := self._lives.get(child)) is not None:
            life.send(number)

    def _on_ready(self, child: str, facts: dict[str, Any]) -> None:
        self._plan.note(child, facts)
        self._act(self._supervisor.ready(child, time.monotonic()))

    def _on_exit(self, child: str, status: int) -> None:
        self._lives.pop(child, None)
        self.exits[child, "signal" if status < 0 else "status"] += 1
        self._show_warnings()
        self._act(self._supervisor.exited(child, status, time.monotonic()))

    def _give_up(self, child: str, why: str) -> None:
        self.has_failed = True
        log = self._logs[child]
        self._screen.error(f"{child} {why}; giving up", hint=f"its log is {log.path}")
        self._screen.lines(log.last_lines())

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._supervisor.next_due()
        if due is not None:
            # A millisecond late rather than early: loops round their clocks.
            pause_s = max(0.0, due - time.monotonic()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._on_time)

    def _on_time(self) -> None:
        self._act(self._supervisor.tick(time.monotonic()))

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(ROUND_S)
            self._show_warnings()
            reap(self._orphans())
            for log in self._logs.values():
                log.rotate()

    def _show_warnings(self) -> None:
        for child, log in self._logs.items():
            for line in log.fresh_lines():
                if (said := grave(line)) is not None:
                    self._screen.step(child, said, warning=True)

    def _orphans(self) -> set[int]:
        ours = {life.pid for life in self._lives.values()}
        return child_pids() - self._not_ours - ours

    async def _outlive_orphans(self) -> None:
        """Wait for what killed children left behind; kill what does not end by itself."""
        end = time.monotonic() + self._orphans_s
        while living := reap(self._orphans()):
            if time.monotonic() > end:
                for pid in living:
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def state_of(self, child: str) -> State:
        """Return where a child stands."""
        return self._supervisor.state_of(child)
