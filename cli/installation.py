"""An installation that is up, as its user needs to know it."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.display import prose
from skep import Client, NotReachable, SkepError, Worker

log = logging.getLogger(__name__)

#: How long the block of facts waits for the workers to be known at the api.
WORKERS_KNOWN_S: Final = 15.0
_PAUSE_S: Final = 0.05
#: Where every client looks unless it is told.
_USUAL_URL: Final = "http://127.0.0.1:3000"
#: Where the texts of the block of facts begin, in columns.
_INDENT: Final = 12


@dataclass(frozen=True, slots=True)
class Site:
    """Where it is, where it keeps things, and how many workers it has."""

    url: str
    data: Path
    token: str | None
    workers: int


def facts_of(site: Site) -> list[tuple[str, str]]:
    """Return what the user of an installation is shown once it is up."""
    workers = wait_for_workers(site)
    names = [f"{w['name']} ({w['slots']} slots)" for w in workers]
    confined = sorted({confinement(worker, _INDENT) for worker in workers})
    return [
        ("URL", site.url),
        ("data", str(site.data)),
        ("workers", ", ".join(names) or "none has said hello yet; see the logs folder"),
        ("sandbox", "\n".join(confined) or "not known yet"),
        ("stop", "Ctrl-C"),
        ("try", "\n".join(first_steps(site, workers))),
    ]


def first_steps(site: Site, workers: list[Worker]) -> list[str]:
    """Return what may be typed into another terminal to begin with."""
    # Not everybody has the program on the PATH: then as it was called here.
    own = Path(sys.argv[0])
    skep = shlex.quote(str(own)) if own.name == "skep" and not shutil.which("skep") else "skep"
    # Containers need the image of the runtime too; making it registers it.
    needs_image = any(worker["sandbox"] == "docker" for worker in workers)
    steps = [
        f"{skep} runtime {'build' if needs_image else 'register'} python",
        f"{skep} function new hello",
        f"{skep} dev hello",
    ]
    if site.token:
        steps.insert(0, "export SKEP_TOKEN=…")
    if site.url != _USUAL_URL:
        steps.insert(0, f"export SKEP_URL={site.url}")
    return steps


def confinement(worker: Worker, indent: int = 0) -> str:
    """Say which sandbox a worker uses and what that confines; a terminal's lines are filled."""
    said = prose(f"{worker['sandbox']}: {worker['isolation']}", indent, err=False)
    return "\n".join(line.strip() for line in said.splitlines())


def wait_for_workers(site: Site) -> list[Worker]:
    """Return the workers that are up, once all are, or after a while those that are."""
    end = time.monotonic() + WORKERS_KNOWN_S
    found: list[Worker] = []
    with Client(site.url, token=site.token, timeout=5, retries=0) as client:
        while time.monotonic() < end:
            try:
                found = [w for w in client.workers() if w["state"] == "up"]
            except NotReachable:
                # It stops, or died: whoever asked is told what is known.
                break
            except SkepError as error:
                log.warning("GET /workers: %s", error)
            if len(found) >= site.workers:
                break
            time.sleep(_PAUSE_S)
    return found
