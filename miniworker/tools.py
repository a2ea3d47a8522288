"""The tools folder: ``python3`` and ``pip3`` of an environment that skep makes for sandboxes.

It is made once for an interpreter and a release, read-only for sandboxes, and holds all that
skep itself puts into one: the agents and the launcher. There is no installer run in it: it
is a virtual environment by its ``pyvenv.cfg``, and pip is a copy of skep's own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import runtimes
from miniworker.layout import needs_bind
from wire.models import AGENT_PATTERN

#: Where agents are in the tools folder, each by the name of its runtime's folder.
AGENTS: Final = "agents"
#: The runtimes that skep brings.
DATA: Final = Path(next(iter(runtimes.__path__)))
Sources = list[tuple[Path, str]]
LEAST_VERSION: Final = (3, 8)
ASK_S: Final = 20
#: A kernel reads no more of a ``#!`` line either.
_LINE_BYTES: Final = 255
_QUESTION: Final = """
import json, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "folders": sorted({sys.base_prefix, sys.base_exec_prefix, sysconfig.get_path("stdlib")}),
}))
"""
RUN_AGENT: Final = "import skep_agent\n\nskep_agent.main()\n"
_RUN_PIP: Final = """#!/bin/sh
here=$(dirname "$0")
exec "$here/python3" "$here/../pip/pip" "$@"
"""
_NO_PIP: Final = """#!/bin/sh
echo "pip3: the environment that skep runs in has no pip to lend: install pip there" >&2
exit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that sandboxes may use."""

    executable: str
    version: tuple[int, ...]
    #: Folders outside /usr that it needs.
    binds: tuple[str, ...]


def interpreters() -> list[Interpreter]:
    """Return the Pythons of this host that could serve, the one skep runs on first."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    found = []
    for candidate in dict.fromkeys((base, "/usr/bin/python3", "/usr/local/bin/python3")):
        interpreter = _ask(candidate)
        if interpreter is not None and interpreter.version >= LEAST_VERSION:
            found.append(interpreter)
    return found


def _ask(executable: str) -> Interpreter | None:
    """Return what an interpreter says of itself; None if there is none."""
    question = [executable, "-I", "-c", _QUESTION]
    try:
        answer = subprocess.run(question, capture_output=True, timeout=ASK_S, check=True)
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    real = os.path.realpath(executable)
    binds = [f for f in facts["folders"] if needs_bind(f)]
    outer = [f for f in binds if not any(f != o and f.startswith(o + "/") for o in binds)]
    version = tuple(facts["version"])
    return Interpreter(executable=real, version=version, binds=tuple(outer))


def make(folder: Path, interpreter: Interpreter, more: Sequence[Path] = ()) -> Path:
    """Return the tools folder of this interpreter under ``folder``, making it if need be.

    ``more`` are folders of runtimes beside those that skep brings.
    """
    place = folder.absolute() / "tools"
    sources = _sources(more)
    target = place / _digest(interpreter, sources)
    if target.is_dir():
        return target
    place.mkdir(parents=True, exist_ok=True, mode=0o711)
    half = Path(tempfile.mkdtemp(prefix="half-", dir=place))
    try:
        _fill(half, interpreter, sources)
        half.chmod(0o755)
        _into_place(half, target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target


def _into_place(half: Path, target: Path) -> None:
    try:
        half.rename(target)
    except OSError:
        # Another probe of this folder was first; then its work is as good as ours.
        if not target.is_dir():
            raise


def sweep(folder: Path, kept: Path) -> None:
    """Remove the tools of other interpreters and releases; only before any sandbox runs."""
    for entry in kept.parent.iterdir():
        if entry.name != kept.name and folder in entry.parents:
            shutil.rmtree(entry, ignore_errors=True)


def _fill(half: Path, interpreter: Interpreter, sources: Sources) -> None:
    (half / "bin").mkdir()
    major, minor = interpreter.version[:2]
    for name in ("python3", "python", f"python{major}.{minor}"):
        (half / "bin" / name).symlink_to(interpreter.executable)
    (half / "pyvenv.cfg").write_text(_config(interpreter))
    (half / f"lib/python{major}.{minor}/site-packages").mkdir(parents=True)
    _lend_pip(half)
    (half / "agents").mkdir()
    for source, name in sources:
        shutil.copyfile(source, half / name)
        # It is started by its own #! line, the interpreter's files by an interpreter.
        (half / name).chmod(0o644 if name.endswith(".py") else 0o755)
    _compile_agent(half / AGENTS, interpreter)
    _open_for_reading(half)


def _compile_agent(agents: Path, interpreter: Interpreter) -> None:
    """Spare each sandbox the compiling: a program is compiled at each start, a module once."""
    (agents / "python.py").write_text(RUN_AGENT)
    module = str(agents / "skep_agent.py")
    command = [interpreter.executable, "-I", "-m", "compileall", "-q", module]
    # Without it the agent starts as well, only later.
    subprocess.run([*command, "--invalidation-mode", "unchecked-hash"], check=False)


def _config(interpreter: Interpreter) -> str:
    home = Path(interpreter.executable).parent
    version = ".".join(map(str, interpreter.version))
    return f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"


def _lend_pip(half: Path) -> None:
    """Copy skep's own pip to a path that only the wrappers know."""
    spec = importlib.util.find_spec("pip")
    script = _NO_PIP
    if spec is not None and spec.origin is not None:
        # With its compiled files, as they are: a sandbox could not write them.
        shutil.copytree(Path(spec.origin).parent, half / "pip/pip", copy_function=shutil.copy2)
        script = _RUN_PIP
    for name in ("pip3", "pip"):
        (half / "bin" / name).write_text(script)
        (half / "bin" / name).chmod(0o755)


def _sources(more: Sequence[Path]) -> Sources:
    """Return the files that skep puts into every sandbox, and their names there."""
    here = Path(__file__).parent
    return [
        (DATA / "python" / "agent.py", f"{AGENTS}/skep_agent.py"),
        (here / "launcher.py", "launcher.py"),
        *((source, f"{AGENTS}/{name}") for name, source in programs(more).items()),
    ]


def programs(more: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the agents that are programs by themselves, by the name of their runtime."""
    found: dict[str, Path] = {}
    for folder in (DATA, *more):
        for agent in sorted(folder.glob("*/agent.*")):
            name = agent.parent.name
            if name != "python" and re.match(AGENT_PATTERN, name):
                found.setdefault(name, agent)
    return found


def lacks(agent: Path, path: str) -> str:
    """Return what the ``#!`` line of an agent asks for if this host lacks it, else nothing.

    ``path`` is the PATH of a sandbox: a program elsewhere would not be there either.
    """
    with agent.open("rb") as file:
        line = file.readline(_LINE_BYTES).decode(errors="replace")
    words = line.removeprefix("#!").split()
    if not line.startswith("#!") or not words:
        return ""
    is_env = Path(words[0]).name == "env" and len(words) > 1
    wanted = words[1] if is_env else words[0]
    return "" if shutil.which(wanted, path=path) else wanted


def _open_for_reading(top: Path) -> None:
    """Let every sandbox's user read it all, whatever the umask or skep's environment says."""
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                executable = stat.S_ISDIR(mode) or mode & 0o100
                path.chmod(0o755 if executable else 0o644)


def _digest(interpreter: Interpreter, sources: Sources) -> str:
    """Return a name that changes when any of what is put in would."""
    spec = importlib.util.find_spec("pip")
    pip = Path(spec.origin) if spec is not None and spec.origin is not None else None
    parts = [repr(interpreter), repr(pip), str(pip.stat().st_mtime_ns) if pip else ""]
    parts += [f"{name}\0{source.read_text()}" for source, name in sources]
    parts += [_RUN_PIP, _NO_PIP, RUN_AGENT]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
