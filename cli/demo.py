"""``skep demo``: everything started, one function called, everything stopped, in a minute."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click

from cli.folder import Folder
from cli.installation import Site, confinement, wait_for_workers
from cli.options import Command
from cli.plan import Settings
from cli.running import live
from cli.runtime import RUNTIMES, load
from cli.sandboxes import for_image
from cli.screen import Screen
from cli.waiting import ending
from skep import Call, Client, SkepError
from wire.process import Started

T = TypeVar("T")
PARAMS: Final = {"roll": "4d6"}
#: For the first call, whose sandbox and dependencies are made meanwhile.
_PATIENCE_S: Final = 120.0


class DemoScreen(Screen):
    """Shows each step as a row of one table, with the time since the one before."""

    last: float

    def begin(self, folder: Path) -> None:
        """Print the head of the table."""
        self.last = time.monotonic()
        click.echo(f"\nskep demo in {folder} (removed at the end)\n")

    def step(self, name: str, what: str, *, warning: bool = False) -> None:
        """Show a step of start or stop."""
        before, self.last = self.last, time.monotonic()
        what = what.partition(" (")[0]
        self.row(f"{name} {what}", self.last - before, "!" if warning else "")

    def quote(self, text: str) -> None:
        """Print a sentence below a row."""
        click.echo("".join(f"      {line}\n" for line in text.splitlines()), nl=False)

    def timed(self, what: str, work: Callable[[], T], note: Callable[[T], str]) -> T:
        """Do some work; show it as a row."""
        begin = time.monotonic()
        done = work()
        self.last = time.monotonic()
        self.row(what, self.last - begin, note(done))
        return done


@click.command(cls=Command, short_help="See it work: start all, roll dice, stop all.")
@click.option("--sandbox", default="auto", show_default=True,
              type=click.Choice(["auto", "docker", "process"]),
              help="What confines dice: auto is docker if its image is there.")  # fmt: skip
def demo(sandbox: Literal["auto", "docker", "process"]) -> None:
    """Start all on free ports in a temporary folder, roll dice, stop, leave nothing."""
    screen = DemoScreen()
    with tempfile.TemporaryDirectory(prefix="skep-demo-") as path:
        screen.begin(Path(path))
        if sandbox == "auto":
            sandbox, why = for_image(load("python")["image"])
            screen.quote(why)
        status = _run(Settings(port=0, sandbox=sandbox), Folder(Path(path)), screen)
    screen.row("folder removed", time.monotonic() - screen.last)
    click.echo("\ndone" if status == 0 else "\nthe demo did not end well")
    sys.exit(status)


def _run(settings: Settings, folder: Folder, screen: DemoScreen) -> int:
    outcomes: list[bool] = []

    async def visit(site: Site) -> None:
        try:
            outcomes.append(await asyncio.to_thread(_tour, site, screen))
        except SkepError as error:
            screen.error(error.message, error.hint)

    started = Started(process="demo", node="demo", log_level="warning")
    status = live(settings, folder, None, screen, started, visit, leave=True)
    return status or int(outcomes != [True])


def _tour(site: Site, screen: DemoScreen) -> bool:
    """Use the installation as a first user would; return whether all went well."""
    workers = screen.timed(
        "worker known", lambda: wait_for_workers(site), lambda found: f"{len(found)} up"
    )
    for worker in workers:
        screen.quote(confinement(worker, 6))
    # After Ctrl-C nothing listens there any more, and nobody wants to wait until it does.
    with Client(site.url, token=site.token, retries=0) as client:
        _register(client, screen)
        calls = [_roll(client, screen, which) for which in ("first, cold", "second, warm")]
    return all(call["status"] == "DONE" for call in calls)


def _register(client: Client, screen: DemoScreen) -> None:
    archive = RUNTIMES / "python" / "dice" / "python.tar.gz"
    runtime = screen.timed(
        "register the python runtime",
        lambda: client.register_runtime(load("python")),
        lambda made: f"{made['name']}, revision {made['revision']}",
    )
    screen.timed(
        "register the function dice",
        lambda: client.register_function(runtime["name"], "dice", archive),
        lambda made: f"{archive.name}, revision {made['revision']}",
    )


def _roll(client: Client, screen: DemoScreen, which: str) -> Call:
    call = screen.timed(f"invoke dice ({which})", lambda: _invoke(client), _outcome)
    if call["status"] != "DONE":
        screen.error(ending(call))
        screen.lines(_logs(client, call))
    return call


def _invoke(client: Client) -> Call:
    # One look, not a wait that outlasts a restart: here none follows.
    return client.call(client.submit_call("dice", PARAMS)["callNum"], wait=_PATIENCE_S)


def _logs(client: Client, call: Call) -> list[str]:
    logs: Any = client.logs(call["callNum"])
    return [*logs["stdout"].splitlines(), *logs["stderr"].splitlines()]


def _outcome(call: Call) -> str:
    ran_ms = f", ran {call['duration'] * 1000:.1f} ms" if call["duration"] else ""
    return (
        f"{json.dumps(PARAMS)} -> {call['result']}  ({call['status']}, {call['start']}{ran_ms})"
    )
