"""What the figures were measured on, in words that name no host and no path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from miniworker.engine import Engine
from wire.errors import SkepError

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = ("api", "cli", "dbnode", "miniworker", "runtimes", "skep", "wire", "worker")
#: Debian's, which is built with profile-guided optimization, if there is one.
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")


def described() -> dict[str, Any]:
    """Return processors, memory, kernel, Python, engine and the commit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count(),
        "model": _model(),
        "memory_gib": round(memory / (1 << 30), 1),
        "system": " ".join(os.uname()[:3:2]),
        "python": f"{sys.version.split()[0]}, {_whose_python()}",
        "engine": _engine(),
        "commit": _commit(),
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }


def _model() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return models[0] if models else ""


def _whose_python() -> str:
    is_system = SYSTEM_PYTHON.exists() and Path(sys.executable).samefile(SYSTEM_PYTHON)
    return "that of the system (/usr/bin/python3)" if is_system else "not that of the system"


def _engine() -> str:
    try:
        engine = Engine(version="auto")
    except SkepError as error:
        return f"none ({type(error).__name__})"
    try:
        return f"Docker {engine.about().version}"
    finally:
        engine.close()


def _commit() -> str:
    """Return the last commit that changed the product: others matter to no figure."""
    last = _git("log", "-1", "--format=%h", "--", *PRODUCT)
    changed = _git("status", "--porcelain", "--", *PRODUCT)
    return f"{last or 'none: not a checkout'}{' and changes' if changed else ''}"


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
