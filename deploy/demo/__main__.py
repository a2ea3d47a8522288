"""Run the demo, and take everything down whatever happens: ``python3 -m deploy.demo``.

Exit status: 0 if all was as it should be, 1 if a step failed (its logs stay), 130 after Ctrl-C.
Settings are those of docker-compose.yml and deploy/images.sh, from the environment.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.demo.cluster import Cluster, Failed
from deploy.demo.page import Page
from deploy.demo.tour import Tour

_INTERRUPTED = 130


def main() -> int:
    """Run the demo; return the exit status."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, interrupt)
    page = Page()
    folder = Path(tempfile.mkdtemp(prefix="skep-cluster-demo-"))
    status = run(page, folder)
    if status == 1:
        page.say(f"logs: {folder}", "yellow")
    else:
        shutil.rmtree(folder)
    return status


def interrupt(_number: int, _frame: Any) -> None:
    """Have SIGTERM and SIGHUP do what Ctrl-C does."""
    raise KeyboardInterrupt


def run(page: Page, folder: Path) -> int:
    """Bring a cluster up, show it, take it down; return the exit status."""
    try:
        cluster = Cluster(page, folder)
    except Failed as error:
        return failed(page, error)
    try:
        status = tried(page, cluster)
    finally:
        # Ctrl-C once more would only leave something behind.
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        left = down(page, cluster)
    return left or status


def tried(page: Page, cluster: Cluster) -> int:
    """Take all steps; return the exit status, having said what went wrong."""
    try:
        show(page, cluster)
    except Failed as error:
        cluster.keep_logs()
        return failed(page, error)
    except KeyboardInterrupt:
        page.bad(f"interrupted: {page.doing}")
        return _INTERRUPTED
    return 0


def show(page: Page, cluster: Cluster) -> None:
    """Take all steps."""
    page.say(f"skep cluster demo: two nodes on one engine, project {cluster.project}", "bold")
    tour = Tour(page, cluster)
    for step in (tour.images, tour.up, tour.register, tour.death, tour.back, tour.rolling):
        step()


def down(page: Page, cluster: Cluster) -> int:
    """Take it down, if any of it is there; return the exit status."""
    if not cluster.is_begun:
        return 0
    try:
        with page.step("Tear it down"):
            cluster.down()
            page.good("no container, volume or network is left; the images stay")
    except Failed as error:
        return failed(page, error)
    return 0


def failed(page: Page, error: Failed) -> int:
    """Show what went wrong; return the exit status."""
    page.bad(f"{page.doing}: {error}")
    if error.hint:
        page.say(error.hint, "yellow")
    return 1


if __name__ == "__main__":
    sys.exit(main())
