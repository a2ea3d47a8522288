"""An installation that is up, as its user needs to know it."""

from __future__ import annotations

import logging
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.runtime import RUNTIMES
from skep import Client, NotReachable, SkepError, Worker

log = logging.getLogger(__name__)

#: How long the block of facts waits for the workers to be known at the api.
WORKERS_KNOWN_S: Final = 15.0
_PAUSE_S: Final = 0.05
#: Of a long sentence in the block of facts, in columns.
WIDTH: Final = 76


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
    runtime = RUNTIMES / "python" / "runtime.json"
    first = f"curl -H 'Content-Type: application/json' -d @{runtime} {site.url}/registerRuntime"
    return [
        ("URL", site.url),
        ("data", str(site.data)),
        ("workers", ", ".join(names) or "none has said hello yet; see the logs folder"),
        ("sandbox", "\n".join(sorted({confinement(w) for w in workers})) or "not known yet"),
        ("stop", "Ctrl-C"),
        ("try", "\n".join([*_image(workers), first, f"curl {site.url}/runtimes"])),
    ]


def _image(workers: list[Worker]) -> list[str]:
    """Return how the image of the runtime is made, where containers need one."""
    if all(worker["sandbox"] != "docker" for worker in workers):
        return []
    return [f"docker build --tag pythonruntime {RUNTIMES / 'python'}"]


def confinement(worker: Worker) -> str:
    """Say which sandbox a worker uses and what that confines."""
    said = f"{worker['sandbox']}: {worker['isolation']}"
    return textwrap.fill(said, WIDTH, break_on_hyphens=False, break_long_words=False)


def wait_for_workers(site: Site) -> list[Worker]:
    """Return the workers that are up, once all are, or after a while those that are."""
    end = time.monotonic() + WORKERS_KNOWN_S
    found: list[Worker] = []
    with Client(site.url, token=site.token, timeout=5) as client:
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
