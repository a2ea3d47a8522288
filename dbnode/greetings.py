"""What is said to a new connection: how durable a commit must be, and whose the store is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from wire.errors import Conflict, StoreUnavailable

log = logging.getLogger(__name__)

#: Says a statement and returns the first value of its answer.
Ask = Callable[[str], Any]

#: How long another program may hold a lock before it is told of, in seconds.
PATIENCE_S: Final = 5.0
#: How long the session of a DB node that was killed may take to end.
HANDOVER_S: Final = 3.0

#: What libpq is told, unless the URL says otherwise: a server that is gone is noticed.
CONNECT: Final = {
    "application_name": "skep-dbnode",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
#: Any number, but always this one: "skep". The other half is the schema, which has the tables.
_TRY_LOCK: Final = (
    "SELECT pg_try_advisory_lock(1936418160, hashtext(coalesce(current_schema(), '')))"
)


def greet_sqlite(ask: Ask) -> None:
    """Let a commit be one append that is synced before it returns."""
    ask("PRAGMA journal_mode = WAL")
    ask("PRAGMA synchronous = FULL")
    # Whoever opens the file with another program still sees every committed call.
    ask("PRAGMA wal_autocheckpoint = 1000")


def greet_postgresql(ask: Ask) -> None:
    """See that the server keeps what it acknowledges, and take the lock of the store.

    The lock lives as long as this session: who lost it has lost the connection as well.

    Raises:
        StoreUnavailable: the database cannot hold every text.
        Conflict: another DB node has the store.
    """
    _check_encoding(ask("SHOW server_encoding"))
    if ask("SHOW synchronous_commit") == "off":
        ask("SET synchronous_commit = on")
    if ask("SHOW fsync") == "off":
        log.warning("the PostgreSQL server runs with fsync = off: a power cut loses calls")
    ask("SET lock_timeout = '10s'")
    ask("SET statement_timeout = '60s'")
    end = time.monotonic() + HANDOVER_S
    while not ask(_TRY_LOCK):
        if time.monotonic() > end:
            raise Conflict(
                "the store is in use by another DB node",
                hint="stop the other skep-dbnode, or give this one a database of its own",
            )
        time.sleep(0.05)


def _check_encoding(encoding: str) -> None:
    if encoding.upper() != "UTF8":
        raise StoreUnavailable(
            f"the database has the encoding {encoding}, and a store needs UTF8",
            hint="CREATE DATABASE skep ENCODING 'UTF8' TEMPLATE template0",
        )
