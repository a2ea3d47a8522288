"""Commands in pipes against a running installation, and what its functions are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import Up, environment

SLOW = "import json,sys,time\ntime.sleep(json.load(sys.stdin)['s'])\nprint('slept')\n"
ECHO = "import sys\nprint('to the log', file=sys.stderr)\nprint(sys.stdin.read())\n"


def skep(
    hive: Up, *arguments: str, given: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env={**environment(), "SKEP_URL": hive.url, **variables},
        input=given, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def result(hive: Up, *arguments: str, given: str = "") -> str:
    """Run a command that goes well; return what it printed."""
    done = skep(hive, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(folder: Path, **files: str) -> Path:
    """Write files into a folder; ``_`` in a name is its dot."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder
