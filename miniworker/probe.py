"""What this host can confine, found out by doing it.

For each level, the strongest first, a sandbox is made exactly as a miniworker makes it, and
a call is run in it. The first that works is the level of this worker.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from miniworker import agent, tools
from miniworker.confined import ConfinedSandbox, Settings
from miniworker.mark import Mark
from miniworker.opening import Opened, open_sandbox
from miniworker.sandbox import Driver, NoSandbox, Plan
from wire.errors import BadRequest, SkepError
from wire.models import Function, Runtime, Spec

LEVELS: Final = ("bubblewrap", "uid", "rlimits")
TRY_S: Final = 20.0
PRINTED_BYTES: Final = 4096
#: Above all users of the host; in a container with fewer uids the second one is tried.
UIDS: Final = (("1073741824", "268435456"), ("20000", "40000"))
_OWN_ROOT: Final = (
    "a root of its own with the system read-only, its own processes, and no network unless "
    "the function asks for it"
)
_LIMITS: Final = "limits on memory, processes, files and priority, and a clean environment"
#: Why there was nothing to try.
ABSENT: Final = {
    "auto": "no Python from 3.8 on that a sandbox could use was found",
    "bubblewrap": "bwrap is not installed",
    "uid": "only root can give each sandbox a user of its own",
    "rlimits": "no Python from 3.8 on that a sandbox could use was found",
}
ISOLATION: Final = {
    (
        "bubblewrap",
        "yes",
    ): f"bubblewrap, an unprivileged user of its own, {_OWN_ROOT}; {_LIMITS}",
    ("bubblewrap", "no"): f"bubblewrap as your own user, {_OWN_ROOT}; {_LIMITS}",
    ("uid", "yes"): f"an unprivileged user of its own, {_OWN_ROOT}; {_LIMITS}",
    ("uid", "no"): f"an unprivileged user of its own, {_LIMITS}; the host's files that anyone "
    "may read and its network are open to it",
    ("rlimits", "no"): f"{_LIMITS}, and nothing else: trusted code only",
}


def probe(
    folder: Path, level: str = "auto", more_runtimes: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the driver, its level, what that confines, and the settings for Spawn.

    Raises:
        SkepError: no level works (or not the one asked for); the message says why.
    """
    errors = []
    for settings in _candidates(folder.absolute(), level, more_runtimes):
        error = _try(settings)
        if error is None:
            tools.sweep(folder.absolute(), Path(settings.tools))
            return _found(settings)
        errors.append(f"{settings.level}: {error}")
    why = "; ".join(dict.fromkeys(errors)) or ABSENT[level]
    raise BadRequest(
        f"no sandbox of level {level!r} can be made here: {why}",
        hint="install bubblewrap, or set SKEP_ISOLATION=rlimits to run trusted code only",
    )


def _found(settings: Settings) -> dict[str, Any]:
    has_uid = settings.level != "rlimits" and os.geteuid() == 0
    own = has_uid if settings.level == "bubblewrap" else settings.has_view
    return {
        "driver": "process",
        "level": settings.level,
        "isolation": ISOLATION[settings.level, "yes" if own else "no"],
        "settings": msgspec.to_builtins(settings),
    }


def _candidates(folder: Path, level: str, more: Sequence[Path]) -> Iterator[Settings]:
    """Yield what may be tried, the strongest first."""
    interpreters = tools.interpreters()
    for name in LEVELS if level == "auto" else (level,):
        for interpreter in interpreters:
            for variant in _variants(name):
                place = tools.make(folder, interpreter, more)
                binds = ":".join(interpreter.binds)
                yield Settings(level=name, tools=str(place), binds=binds, **variant)


def _variants(level: str) -> Iterator[dict[str, str]]:
    root = os.geteuid() == 0
    uids = UIDS if root else (("0", "1"),)
    if level == "bubblewrap":
        program = shutil.which("bwrap")
        for base, span in uids if program else ():
            yield {
                "namespaces": "no",
                "bwrap": program or "",
                "uid_base": base,
                "uid_span": span,
            }
    elif level == "uid" and root:
        for namespaces in ("yes", "no"):
            for base, span in uids:
                yield {"namespaces": namespaces, "uid_base": base, "uid_span": span}
    elif level == "rlimits":
        yield {"namespaces": "no"}


def _try(settings: Settings) -> str | None:
    """Make a sandbox in a fork, for it may change this process; return what went wrong."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, settings)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)["error"] if answer else "the probe died"


def _answer(writer: int, settings: Settings) -> None:
    error: str | None = "the probe failed"
    # What a level that is not to be had complains of is told only if none is.
    printed = os.memfd_create("printed")
    os.dup2(printed, 2)
    try:
        error = _run(settings)
    except (SkepError, OSError) as caught:
        error = str(caught)
    finally:
        if error is not None:
            error += _last_line(printed)
        os.write(writer, json.dumps({"error": error}).encode())
        os._exit(0)


def _last_line(printed: int) -> str:
    lines = os.pread(printed, PRINTED_BYTES, 0).decode(errors="replace").strip().splitlines()
    return f" ({lines[-1]})" if lines else ""


def _run(settings: Settings) -> str | None:
    # Beside the tools, where the folders of miniworkers will be.
    place = Path(settings.tools).parent.parent
    folder = Path(tempfile.mkdtemp(prefix="probe-", dir=place))
    try:
        (folder / "bundle").mkdir(mode=0o755)
        folder.chmod(0o711)
        return _open_and_call(settings, folder)
    except NoSandbox as error:
        return error.message
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_and_call(settings: Settings, folder: Path) -> str | None:
    function = Function(function_name="probe", runtime_name="probe")
    runtime = Runtime(name="probe", image="probe", path="/ws")
    spec = Spec(function=function, runtime=runtime)
    plan = Plan(spec=spec, bundle=folder / "bundle", folder=folder / "sandbox")
    given: dict[str, str] = msgspec.to_builtins(settings)
    return prove(ConfinedSandbox, plan, given, "python3 -c 'print(6*7)'", b"42\n")


def prove(
    driver: Driver, plan: Plan, settings: dict[str, str], command: str, wanted: bytes
) -> str | None:
    """Make a sandbox and run one call there; return why it did not answer what it should.

    Raises:
        NoSandbox: there is none.
    """
    with closing(Mark()) as mark:
        opened = open_sandbox(driver, plan, settings, command, agent.Limits(), mark)
        try:
            return _run_call(opened, wanted)
        finally:
            opened.close()


def _run_call(opened: Opened, wanted: bytes) -> str | None:
    opened.data.send(agent.Call(call=1, attempt=1, timeout_ms=10_000, env={}), b"{}")
    limit = time.monotonic() + TRY_S
    while time.monotonic() < limit:
        if not select.select([opened.data.fileno()], [], [], 0.1)[0]:
            continue
        try:
            frames = opened.data.read()
        except EOFError as error:
            return str(error)
        for message, body in frames:
            said = (getattr(message, "status", ""), body[: len(wanted)])
            return (
                None if said == ("DONE", wanted) else f"its program does not run: {message!r}"
            )
    return f"no answer within {TRY_S:g} s"
