"""``skep dev``: a folder registered anew at every change, with the logs of its calls."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from cli import sending, settings
from cli.display import prose
from cli.following import Follower, line
from cli.naming import RUNTIME
from cli.options import EXIT_AWAY, Command, exit_code, shared, target_of
from cli.runtime import load, own
from cli.upload import prepare_option
from cli.watching import Watcher, summary
from skep import TERMINAL, Call, Client, Function, SkepError

#: How often the folder is looked at, and the api for calls, in seconds.
LOOK_S: Final = 0.25
CALLS_S: Final = 1.0
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("path", type=_FOLDER)
@click.option("--name", help="What the function is called.  [default: the folder's name]")
@click.option("--runtime", type=RUNTIME, help="The runtime.  [default: as in skep.json]")
@settings.setting_options
@prepare_option
@shared()
@click.pass_context
def dev(
    ctx: click.Context,
    /,
    path: Path,
    name: str | None,
    runtime: str | None,
    prepare: bool,
    **options: Any,
) -> None:
    """Register a folder anew at every change; show its calls.

    PATH is registered, and again whenever something in it changes; what its calls wrote is
    printed as they end.

    A runtime that skep comes with is registered if it is not yet. Ctrl-C ends it; the
    function stays.
    """
    name = name or name_of(path)
    with target_of(ctx).client(sending.PATIENCE_S) as client:
        bench = Bench(client, path, name, runtime, settings.given(options), prepare=prepare)
        try:
            bench.run()
        except KeyboardInterrupt:
            click.echo(f"\n{name} stays as it is; skep function remove {name} removes it")


def name_of(folder: Path) -> str:
    """Return a function's name made of a folder's."""
    name = re.sub(r"[^A-Za-z0-9._:-]+", "-", folder.resolve().name).lstrip("._:-")
    if not name:
        raise click.UsageError(f"no name can be made of {folder}; say --name NAME")
    return name[:128]


def _trouble(error: SkepError) -> str:
    if exit_code(error) == EXIT_AWAY:
        return f"{error.message}; still trying"
    hint = f"\nhint: {error.hint}" if error.hint else ""
    return f"{error.message} [{error.code}]{hint}"


class Bench:
    """One folder and its function: registered, watched, listened to."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        name: str,
        runtime: str | None,
        options: dict[str, Any],
        *,
        prepare: bool,
    ) -> None:
        self._client = client
        self._folder = folder
        self._name = name
        self._runtime = runtime
        self._options = options
        self._prepare = prepare
        self._watcher = Watcher(folder)
        self._follower = Follower(client, {"function": name})
        #: What each act last went wrong with, so that it is said once.
        self._trouble: dict[str, str] = {}
        #: The change that was said last, and when it may be sent again if skep was away.
        self._announced: list[str] = []
        self._try_again = 0.0
        self._revision = 0

    def run(self) -> None:
        """Go on until Ctrl-C."""
        click.echo(f"watching {self._folder} as {self._name}; Ctrl-C ends")
        calls_due = 0.0
        while True:
            self._guarded(self._look)
            if self._revision and time.monotonic() >= calls_due:
                self._guarded(self._listen)
                calls_due = time.monotonic() + CALLS_S
            time.sleep(LOOK_S)

    def _guarded(self, act: Callable[[], bool]) -> None:
        """Do something; what goes wrong is said once, until ``act`` says that all is well."""
        try:
            if act():
                self._trouble.pop(act.__name__, None)
            return
        except SkepError as error:
            trouble = _trouble(error)
        except click.UsageError as error:
            trouble = error.message
        if trouble not in self._trouble.values():
            self._tell(click.style("error", fg="red") + f"    {prose(trouble, 19)}")
        self._trouble[act.__name__] = trouble

    def _look(self) -> bool:
        changed = self._watcher.look()
        if time.monotonic() < self._try_again:
            return False
        if not changed:
            return True
        if self._revision and changed != self._announced:
            self._tell(f"changed  {summary(changed)}")
        self._announced = changed
        try:
            self._register()
        except SkepError as error:
            if exit_code(error) == EXIT_AWAY:
                self._try_again = time.monotonic() + CALLS_S
            else:
                # Tried anew when the folder changes again: this state of it is refused.
                self._taken()
            raise
        except click.UsageError:
            self._taken()
            raise
        self._taken()
        return True

    def _taken(self) -> None:
        self._watcher.take()
        self._announced = []

    def _register(self) -> None:
        said = settings.of_folder(self._folder)
        runtime = self._runtime or said.get("runtime")
        if not runtime:
            raise click.UsageError(f"which runtime? --runtime NAME, or in {settings.FILE}")
        chosen = settings.merged(said, self._options)
        began = time.monotonic()
        notes: list[str] = []
        with sending.archive_of(
            self._folder, self._name, notes.append, self._watcher.found
        ) as archive:
            answer = self._send(runtime, archive, chosen)
        self._registered(answer, time.monotonic() - began, ", ".join(notes))

    def _send(self, runtime: str, archive: Path, chosen: dict[str, Any]) -> Function:
        def send() -> Function:
            return sending.register(
                self._client, runtime, self._name, archive, chosen, prepare=self._prepare
            )

        try:
            return send()
        except SkepError as error:
            meant = own(runtime) if error.code == "unknown_runtime" else None
            if meant is None or runtime != meant[1]:
                raise
        made = self._client.register_runtime(load(meant[0]))
        self._tell(f"runtime  {made['name']} registered")
        return send()

    def _registered(self, answer: Function, took_s: float, packed: str) -> None:
        is_first = not self._revision
        if is_first:
            self._follower.skip()
        self._revision = answer["revision"]
        what = click.style("ready", fg="green") + f"    {self._name} revision {self._revision}"
        self._tell(f"{what} in {took_s:.1f} s ({packed.partition(', sha256')[0]})")
        if is_first:
            self._tell(f"try      skep invoke {self._name}")

    def _listen(self) -> bool:
        for call in self._follower.look():
            if call["status"] in TERMINAL:
                self._show(call)
        return True

    def _show(self, call: Call) -> None:
        click.echo(line(call, shutil.get_terminal_size().columns))
        logs = self._client.logs(call["callNum"])
        for text, colour in ((logs["stdout"], None), (logs["stderr"], "yellow")):
            for one in text.splitlines():
                click.echo(click.style("  | ", dim=True) + click.style(one, fg=colour))
        if logs["omitted"]:
            click.echo(f"  | ({logs['omitted']} bytes of the middle are left out)")

    def _tell(self, text: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')}  {text}")
