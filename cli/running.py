"""Everything of one data folder, from its lock to the last process gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from cli.folder import Folder
from cli.hive import Hive
from cli.installation import Site, facts_of
from cli.life import environment
from cli.metrics import Metrics
from cli.plan import Settings, UpPlan, process_of
from cli.screen import Screen
from cli.targets import FILE, Targets
from wire.process import Started, release, run
from wire.scrape import Place, scraped

#: What is done with an installation once it is up.
Visit = Callable[[Site], Coroutine[Any, Any, None]]
#: What is started, with which options: another plan may lead the processes elsewhere.
Planner = Callable[[Settings], UpPlan]


def serve(
    settings: Settings,
    folder: Folder,
    token: str | None,
    screen: Screen,
    started: Started,
    *,
    plan: Planner = UpPlan,
) -> int:
    """Run everything until told to stop; return the exit status."""

    async def show(site: Site) -> None:
        screen.block(f"skep {release()} is up", await asyncio.to_thread(facts_of, site))
        folder.describe(pid=os.getpid(), url=site.url)
        started.announce(url=site.url, data=str(folder.path), pid=os.getpid())

    return live(settings, folder, token, screen, started, show, plan=plan)


def live(
    settings: Settings,
    folder: Folder,
    token: str | None,
    screen: Screen,
    started: Started,
    visit: Visit,
    *,
    leave: bool = False,
    plan: Planner = UpPlan,
) -> int:
    """Start everything, visit it, run until told to stop (or ``leave``); return the status."""
    waiting = "waiting for what a killed skep left in this folder to stop"
    folder.take(on_wait=lambda: screen.step("skep", waiting))
    failed: list[bool] = []

    async def main(stop: asyncio.Event) -> None:
        async with running(plan(settings), settings, folder, token, screen, stop) as hive:
            if await _first(hive.is_up, hive.is_down):
                await visit(Site(hive.url, folder.path, token, settings.workers))
                if not leave:
                    await hive.is_down.wait()
        failed.append(hive.has_failed)

    run(main, started)
    return int(failed != [False])


class UpHive(Hive):
    """A hive of the real plan: knows its URL, and tells where its metrics are."""

    def __init__(self, plan: UpPlan, targets: Targets, *args: Any, **kwargs: Any) -> None:
        super().__init__(plan, *args, **kwargs)
        self._up_plan = plan
        self._targets = targets

    def _on_ready(self, child: str, facts: dict[str, Any]) -> None:
        super()._on_ready(child, facts)
        url = self.url if child == "api" else str(facts.get("metrics", ""))
        self._targets.note(process_of(child), child, url)

    @property
    def url(self) -> str:
        """Return where the api is."""
        return self._up_plan.url


@contextlib.asynccontextmanager
async def running(
    plan: UpPlan,
    settings: Settings,
    folder: Folder,
    token: str | None,
    screen: Screen,
    stop: asyncio.Event,
) -> AsyncIterator[UpHive]:
    """Run everything within the block; at its end all is gone, sockets and lock too."""
    targets = Targets(folder.run / FILE)
    folder.clear_run(plan.socket_names)
    hive = UpHive(plan, targets, folder, screen, {**environment(token), **settings.builds})
    _on_signals(hive.ask_to_stop)
    watch = asyncio.create_task(_when(stop, hive.ask_to_stop), name="stop")
    hive.begin()
    try:
        async with scraped(Place(port=0), Metrics(hive).page) as url:
            targets.note("up", "up", url)
            yield hive
    finally:
        watch.cancel()
        hive.ensure_stopping()
        await hive.finish()
        folder.clear_run(plan.socket_names)
        folder.release()


def _on_signals(ask: Callable[[], None]) -> None:
    """Let each signal ask anew: the second one is meant to hurry."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under nohup SIGHUP is ignored, and stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, ask)


async def _when(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


async def _first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either; return whether it is the wanted one and the other is not."""
    waits = [asyncio.create_task(event.wait()) for event in (wanted, other)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return wanted.is_set() and not other.is_set()
