"""Installing the dependencies of a bundle: a miniworker for each, for that alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire import jobs
from wire.about import about
from wire.codec import Message
from wire.counting import Buckets
from wire.models import Fault, Reason, Spec
from worker.minis import Minis
from worker.pool import STOP_S
from worker.tape import OnText

log = logging.getLogger(__name__)

#: How long after its own limit a build may go on before its miniworker is killed.
LATE_S: Final = 10.0


@dataclass(slots=True)
class Build:
    """One build, and where its end is awaited."""

    order: jobs.Build
    built: asyncio.Future[jobs.Built]
    on_text: OnText


class Builds:
    """The builds under way, by miniworker."""

    def __init__(self, minis: Minis, limit_s: float, env: Mapping[str, str]) -> None:
        self._minis = minis
        self._limit_s = limit_s
        self._env = dict(env)
        self._builds: dict[str, Build] = {}
        #: When those are killed that were told to stop and are still there.
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._begun = 0
        #: How they ended, and how long they took.
        self.endings: Counter[str] = Counter()
        self.seconds = Buckets()

    def __repr__(self) -> str:
        return f"<Builds: {len(self._builds)} under way>"

    def __len__(self) -> int:
        return len(self._builds)

    async def build(self, spec: Spec, bundle: Path, on_text: OnText) -> jobs.Built:
        """Run the dependencies command in a bundle; return how that ended.

        ``on_text`` hears what it prints while it runs.
        """
        begun = time.monotonic()
        built = await self._run(spec, bundle, on_text)
        self._note(spec, built, time.monotonic() - begun)
        return built

    def _note(self, spec: Spec, built: jobs.Built, took_s: float) -> None:
        told = about(function=spec.function.function_name)
        self.seconds.observe(took_s)
        if built.reason is None:
            self.endings["done"] += 1
            log.info("dependencies installed in %.1f s", took_s, extra=told)
        else:
            self.endings["failed"] += 1
            why = built.reason.message[:200]
            log.info("dependencies not installed in %.1f s: %s", took_s, why, extra=told)

    async def _run(self, spec: Spec, bundle: Path, on_text: OnText) -> jobs.Built:
        self._begun += 1
        name = f"b{self._begun}"
        timeout_ms = int(self._limit_s * 1000)
        order = jobs.Build(spec=spec, bundle=str(bundle), timeout_ms=timeout_ms, env=self._env)
        built_: asyncio.Future[jobs.Built] = asyncio.get_running_loop().create_future()
        build = self._builds[name] = Build(order, built_, on_text)
        self._minis.spawn(name)
        built: jobs.Built | None = None
        try:
            built = await asyncio.wait_for(build.built, self._limit_s + LATE_S)
            return built
        except TimeoutError:
            return _failed(f"it did not end within {self._limit_s:g} s")
        finally:
            self._leave(name, in_order=built is not None)

    def heard(self, name: str, message: Message) -> bool:
        """Take what a miniworker said; return whether it builds, or has built."""
        if not name.startswith("b"):
            return False
        build = self._builds.get(name)
        match message:
            case jobs.Up() if build:
                self._minis.tell(name, build.order)
            case jobs.Printed(text=text) if build:
                build.on_text(text)
            case jobs.Built() if build and not build.built.done():
                build.built.set_result(message)
            case jobs.Broken() if build and not build.built.done():
                build.built.set_result(jobs.Built(reason=message.reason, fault=message.fault))
        return True

    def exited(self, name: str, why: str) -> bool:
        """Take the end of a miniworker; return whether it was one that builds."""
        if name in self._leaving:
            self._leaving.pop(name).cancel()
        build = self._builds.get(name)
        if build and not build.built.done():
            build.built.set_result(_failed(why))
        return name.startswith("b")

    def _leave(self, name: str, *, in_order: bool) -> None:
        del self._builds[name]
        if in_order:
            self._minis.tell(name, jobs.Stop())
            loop = asyncio.get_running_loop()
            self._leaving[name] = loop.call_later(STOP_S, self._minis.kill, name)
        else:
            self._minis.kill(name)


def _failed(why: str) -> jobs.Built:
    reason = Reason(code="no_sandbox", message=f"the dependencies were not installed: {why}")
    return jobs.Built(reason=reason, fault=Fault.NODE)
