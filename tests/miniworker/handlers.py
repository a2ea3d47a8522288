"""The same misdeed in each mode: the code around it, and a miniworker that runs it."""

from __future__ import annotations

import textwrap
from typing import Any, Final

from tests.miniworker.rig import Mini, Rig, spec
from wire import jobs

MODES: Final = ("handler", "fork", "script", "command")

_HANDLER: Final = """
import json, sys
calls = 0
def main(**params):
    global calls
    calls += 1
    if params.get("fine"):
        print("fine", file=sys.stderr)
        return "fine"
    return misbehave()
"""
_SCRIPT: Final = """
import json, sys
if json.load(sys.stdin).get("fine"):
    print("fine", file=sys.stderr)
    print("fine", end="")
else:
    value = misbehave()
    if value is not None:
        print(json.dumps(value), end="")
"""


def source(mode: str, misdeed: str) -> str:
    """Return a module in which ``misbehave`` does what is given, unless asked to be fine."""
    function = "def misbehave():\n" + textwrap.indent(misdeed.strip("\n"), "    ") + "\n"
    return function + (_HANDLER if mode in ("handler", "fork") else _SCRIPT)


def settings(mode: str) -> dict[str, Any]:
    """Return how a function says its mode."""
    return {
        "handler": {"entry": "hello.main"},
        "fork": {"entry": "hello.main", "isolation": "fork"},
        "script": {"run": "python3 hello.py"},
        # By sh, and so with an interpreter of its own.
        "command": {"run": "exec python3 hello.py"},
    }[mode]


def open_mode(rig: Rig, mode: str, misdeed: str, **function: Any) -> Mini:
    """Return a miniworker that is ready for calls of a misdeed in a mode."""
    mini = rig.spawn()
    bundle = rig.bundle({"hello.py": source(mode, misdeed), "beside.txt": "as it was"})
    ready = mini.specialise(spec(**{**settings(mode), **function}), bundle)
    assert isinstance(ready, jobs.Ready), ready
    return mini
