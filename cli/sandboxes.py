"""Which sandbox the demo uses: said before anything starts, whichever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

from cli.life import environment
from cli.runtime import RUNTIMES

ASK_S: Final = 30.0


def for_image(image: str) -> tuple[Literal["docker", "process"], str]:
    """Return docker if an engine answers and has the image, else process; and why."""
    absent = _why_absent(image)
    if not absent:
        return "docker", f"a Docker engine answers and has the image {image!r}: containers"
    how = ""
    if "has no image" in absent:
        how = f"\nto see it there: docker build --tag {image} {_shown(RUNTIMES / 'python')}"
    return "process", f"{absent}: a confined process instead{how}"


def _why_absent(image: str) -> str:
    command = [sys.executable, "-P", "-m", "miniworker", "image", image]
    try:
        asked = subprocess.run(
            command,
            env=environment(None),
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    return "" if asked.returncode == 0 else asked.stderr.strip().removeprefix("Error: ")


def _shown(path: Path) -> str:
    """Return a path as its user would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
