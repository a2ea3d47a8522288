"""A store by its name: ``tinydb:DIR``, ``sqlite:///FILE``, ``postgresql://…``, ``memory``.

One process at a time has it: a lock beside the files says so, or one of the server.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, Literal

from dbnode.files import OsDisk, explained
from dbnode.memory import MemoryStore
from dbnode.store import Store
from dbnode.tinystore import CATALOGUE, TinyStore, wipe
from wire.durable import make_folder, sync_names
from wire.errors import BadRequest, Conflict

Redeploy = Literal["keep", "fresh"]
#: Stays when the store is wiped: it is the lock's place, not the store's content.
LOCK: Final = "store.lock"
_SQLITE: Final = "sqlite:///"
#: SQLite's names for a database that is gone with its connection.
_NO_FILE: Final = ("", ":memory:")
_POSTGRESQL: Final = ("postgresql://", "postgresql+psycopg://", "postgres://")
_HINT: Final = (
    "say tinydb:FOLDER, sqlite:///FILE, postgresql://USER@HOST/DATABASE, or memory for a trial"
)


@contextmanager
def opened(
    name: str, redeploy: Redeploy = "keep", data: Path = Path("skep-data")
) -> Iterator[Store]:
    """Open a store; ``fresh`` forgets what it holds.

    ``data`` is the folder of a store that is named by its kind alone.

    Raises:
        BadRequest: there is no such kind of store.
        Conflict: another process has it open.
        StoreUnavailable: it cannot be used, or is damaged.
    """
    with _opened(name, data, fresh=redeploy == "fresh") as store, closing(store):
        yield store


def is_there(name: str, data: Path = Path("skep-data")) -> bool:
    """Return whether a store that is files was made; True for those that are not."""
    kind, _, where = name.partition(":")
    if kind == "tinydb":
        return (Path(where) if where else data / "db").joinpath(CATALOGUE).exists()
    if kind == "sqlite":
        return _sqlite_file(name, data).exists()
    return True


def _sqlite_file(name: str, data: Path) -> Path:
    return data / "skep.sqlite" if name == "sqlite" else Path(name.removeprefix(_SQLITE))


def _opened(name: str, data: Path, *, fresh: bool) -> AbstractContextManager[Store]:
    kind, _, where = name.partition(":")
    if name in ("memory", "memory:"):
        return nullcontext(MemoryStore())
    if kind == "tinydb":
        return _tinydb(Path(where) if where else data / "db", fresh=fresh)
    has_file = name.startswith(_SQLITE) and name.removeprefix(_SQLITE) not in _NO_FILE
    if name == "sqlite" or has_file:
        return _sqlite(_sqlite_file(name, data), fresh=fresh)
    if name.startswith(_POSTGRESQL):
        return _postgresql(name, fresh=fresh)
    # Only the kind: what follows may hold a password.
    raise BadRequest(f"there is no store {kind!r} of that form", hint=_HINT)


@contextmanager
def _tinydb(folder: Path, *, fresh: bool) -> Iterator[Store]:
    with _locked(folder, LOCK, str(folder)):
        disk = OsDisk(folder)
        if fresh:
            with explained("be wiped"):
                wipe(disk)
        yield TinyStore(disk)


@contextmanager
def _sqlite(file: Path, *, fresh: bool) -> Iterator[Store]:
    # Not known before: SQLAlchemy takes a second and 20 MB that no other store needs.
    from dbnode.sql import sqlite_database  # noqa: PLC0415
    from dbnode.sqlstore import SqlStore  # noqa: PLC0415

    with _locked(file.parent, f"{file.name}.lock", str(file)):
        with explained(f"use {file}"):
            # Params and results may be secret; the files beside it get the same mode.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_names(file.parent)
        disk = OsDisk(file.parent)
        parts = {"database": file.name, "wal": f"{file.name}-wal"}
        sizes = partial(_sizes, disk, parts)
        yield SqlStore(sqlite_database(file), sizes, fresh=fresh)


@contextmanager
def _postgresql(name: str, *, fresh: bool) -> Iterator[Store]:
    from dbnode.sql import postgresql_database  # noqa: PLC0415
    from dbnode.sqlstore import SqlStore  # noqa: PLC0415

    yield SqlStore(postgresql_database(name), fresh=fresh)


def _sizes(disk: OsDisk, parts: dict[str, str]) -> dict[str, int]:
    return {part: disk.size(path) for part, path in parts.items()}


@contextmanager
def _locked(folder: Path, lock: str, store: str) -> Iterator[None]:
    with explained(f"use {folder}"):
        make_folder(folder, 0o700)
        fd = os.open(folder / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"the store {store} is in use by another process",
                hint="stop the other skep-dbnode, or choose another --data or --store",
            ) from error
        yield
    finally:
        os.close(fd)
