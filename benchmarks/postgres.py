"""A PostgreSQL of Debian's package for the time of a benchmark, with its own defaults.

Unlike that of the tests it syncs: what it acknowledges is durable, which is what costs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Absent(Exception):
    """There is no PostgreSQL here; the message says what to install."""


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise Absent("no PostgreSQL: apt-get install postgresql")
    return found[-1].parent


def _as_nobody() -> dict[str, Any]:
    """Return how a process is started as somebody else, where root would start it."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def running() -> Iterator[str]:
    """Run a server on a unix socket; give the URL of an empty database.

    Raises:
        Absent: it is not installed, or does not come up.
    """
    programs, folder = _programs(), Path(tempfile.mkdtemp(prefix="skep-pg-"))
    who = _as_nobody()
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "skep", "-E", "UTF8",
             "--no-locale", "--auth=trust"],
            cwd=folder, check=True, stdout=subprocess.DEVNULL, **who,
        )  # fmt: skip
        with subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", ""],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who,
        ) as server:  # fmt: skip
            try:
                _until_up(programs, folder)
                yield f"postgresql://skep@/postgres?host={folder}"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


def _until_up(programs: Path, folder: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        asked = subprocess.run(
            [programs / "pg_isready", "-q", "-h", folder, "-U", "skep"], check=False
        )
        if asked.returncode == 0:
            return
        time.sleep(0.1)
    raise Absent("PostgreSQL does not come up")
