"""A store by its name: ``memory:`` or ``tinydb:DIR``, one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from dbnode.files import OsDisk, explained
from dbnode.memory import MemoryStore
from dbnode.store import Store
from dbnode.tinystore import TinyStore, wipe
from wire.errors import BadRequest, Conflict

Redeploy = Literal["keep", "fresh"]
#: Stays when the store is wiped: it is the lock's place, not the store's content.
LOCK: Final = "store.lock"


@contextmanager
def opened(name: str, redeploy: Redeploy = "keep") -> Iterator[Store]:
    """Open a store; ``fresh`` forgets what it holds.

    Raises:
        BadRequest: there is no such kind of store.
        Conflict: another process has it open.
        StoreUnavailable: its folder cannot be used, or is damaged.
    """
    kind, _, where = name.partition(":")
    if kind == "memory":
        yield MemoryStore()
        return
    if kind != "tinydb" or not where:
        raise BadRequest(
            f"there is no store {name!r}", hint="say tinydb:FOLDER, or memory: for a trial"
        )
    folder = Path(where)
    with explained(f"use {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        disk = OsDisk(folder)
        if redeploy == "fresh":
            with explained("be wiped"):
                wipe(disk)
        yield TinyStore(disk)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with explained(f"use {folder}"):
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"the store {folder} is in use by another process",
                hint="stop the other skep-dbnode, or choose another --data or --store",
            ) from error
        yield
    finally:
        os.close(fd)
