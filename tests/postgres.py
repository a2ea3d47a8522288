"""A PostgreSQL server for tests: a private cluster on a unix socket, gone at its end.

Made once as a template and copied, for making one takes a second and copying none. It runs
as an unprivileged user, as PostgreSQL wants it.
"""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import eventually

#: How the reason of each skipped test begins.
NEEDED = "needs PostgreSQL"
#: Without password for the one, with it for all others.
_HBA = "local all skep trust\nlocal all all scram-sha-256\n"
#: Processes are killed here, not machines: what the server wrote is there without any sync.
_CONF = """
fsync = off
autovacuum = off
listen_addresses = ''
max_connections = 20
shared_buffers = 16MB
"""
_databases = itertools.count(1)


@functools.cache
def programs() -> Path | None:
    """Return the folder of initdb and postgres; Debian keeps them off the PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return folders[-1].parent if folders else None


def require() -> Path:
    """Skip the test where there is no PostgreSQL, but fail it in CI, which has to have it."""
    found = programs()
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail("CI must have PostgreSQL: apt-get install postgresql")
    pytest.skip(f"{NEEDED}: apt-get install postgresql")


def _as_nobody() -> dict[str, Any]:
    """Return how a process is started as somebody else, where root would start it."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give_away(folder: Path) -> None:
    who = _as_nobody()
    if who:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, who["user"], who["group"])


class Server:
    """One cluster in a folder; started and stopped as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, user: str = "skep") -> str:
        """Return the URL of a store in a database."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [require() / "postgres", "-D", self.folder / "data", "-k", self.folder],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **_as_nobody(),
            )
        eventually(self._answers, what="PostgreSQL answers")

    def _answers(self) -> bool:
        try:
            self.say("postgres", "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT stops in order, SIGQUIT leaves it to recover, as a power cut does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """Kill all of it at once (SIGKILL), and see it dead: nobody tidies up."""
        assert self._process is not None
        one = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = [self._process.pid, *map(int, one.read_text().split())]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(20)
        self._process = None
        eventually(lambda: not any(map(_is_alive, pids)), what="all of PostgreSQL is dead")

    def say(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Say something to the server as its owner; return the rows of the last answer."""
        where = f"host={self.folder} user=skep dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Make a database and return its name."""
        name = f"test{next(_databases)}"
        self.say("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return name


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def template() -> Iterator[Path]:
    """Make a cluster that servers are copied from."""
    programs_folder = require()
    # Not below the folder of pytest, which is closed to others than its owner.
    folder = Path(tempfile.mkdtemp(prefix="skep-pg-"))
    try:
        _give_away(folder)
        made = subprocess.run(
            [programs_folder / "initdb", "-D", folder / "data", "-U", "skep", "-E", "UTF8",
             "--no-locale", "--no-sync", "--auth=trust"],
            cwd=folder, capture_output=True, text=True, check=False, **_as_nobody(),
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        (folder / "data/pg_hba.conf").write_text(_HBA)
        with (folder / "data/postgresql.conf").open("a") as file:
            file.write(_CONF)
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


@contextmanager
def server(data: Path, disk: Path | None = None) -> Iterator[Server]:
    """Run a server on a copy of a cluster, its files on a disk that others may fill."""
    folder = Path(tempfile.mkdtemp(prefix="skep-pg-", dir=disk))
    made = Server(folder)
    try:
        shutil.copytree(data, folder / "data")
        _give_away(folder)
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
