"""A SQL database behind SQLAlchemy: the connection, and what is asked and said over it.

Plain values go in and come out; what a database refuses is a ``StoreUnavailable``. After any
failure the connection is closed: whether a commit that failed has happened all the same, only
a new connection can tell. There is one connection, and on PostgreSQL it holds the lock of the
store, so whoever commits is the one who may.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Row
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dbnode import greetings, sqlerrors
from dbnode.listing import Query, is_descending
from dbnode.tables import (
    ABOUT,
    CALLS,
    COUNTS,
    ENDED,
    HIGHEST,
    ITEMS,
    METADATA,
    NUL,
    PIECES,
    Values,
    conditions,
    upserts,
)
from wire.errors import BadRequest, StoreUnavailable

#: As many as a statement may name at once (SQLite: 999 on old ones).
CHUNK: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where the databases differ."""

    name: str
    insert: Callable[[sa.Table], Any]
    begin: str
    #: Makes a new connection fit, by what it is told to ask; takes the lock, if there is one.
    greet: Callable[[greetings.Ask], None]


class Database:
    """One connection to a store's database, made anew by ``open`` whenever it was lost."""

    def __init__(self, url: URL, dialect: Dialect, connect: Values) -> None:
        self.url = url
        self.name = dialect.name
        self._dialect = dialect
        self._connection: Connection | None = None
        self._engine = sa.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
            hide_parameters=True,
            # Else nobody counts the rows of many that were written.
            execution_options={"preserve_rowcount": True},
            connect_args=dict(connect),
        )
        self._upserts = upserts(dialect.insert)

    def __repr__(self) -> str:
        return f"<{self.where}, {'open' if self.is_open else 'closed'}>"

    @property
    def where(self) -> str:
        """Return the database as it may be shown."""
        shown = self.url.set(drivername=self.name, query={})
        return shown.render_as_string(hide_password=True)

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection, as far as is known."""
        return self._connection is not None

    def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: it cannot be reached, or not as it must be.
            Conflict: another process has the store open.
        """
        with self._explained():
            self._connection = self._engine.connect()
            self._dialect.greet(self._scalar)

    def close(self) -> None:
        """Let go of the connection; what was not committed has not happened."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()
            with suppress(SQLAlchemyError):
                connection.close()

    # Reading

    def has_store(self) -> bool:
        """Return whether a store was made here."""
        with self._explained():
            return sa.inspect(self._opened()).has_table(ABOUT.name)

    def about(self) -> dict[str, str]:
        """Return what the store is, by name."""
        return {row.name: row.value for row in self._ask(sa.select(ABOUT))}

    def items(self) -> list[str]:
        """Return the changes of the catalogue in order."""
        return [row.doc for row in self._ask(sa.select(ITEMS.c.doc).order_by(ITEMS.c.seq))]

    def counts(self) -> dict[str, int]:
        """Return the number of calls of each function that has any."""
        found = self._ask(sa.select(COUNTS).where(COUNTS.c.calls > 0))
        return {row.name: row.calls for row in found}

    def highest(self) -> int:
        """Return the highest callNum; 0 if there is none."""
        return self._ask(sa.select(sa.func.max(CALLS.c.num).label("num")))[0].num or 0

    def docs(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the documents of those calls that there are."""
        select = sa.select(CALLS.c.num, CALLS.c.doc)
        found = self._ask_some(select, CALLS.c.num, numbers)
        return {row.num: row.doc for row in found}

    def holders(self, keys: Collection[str]) -> dict[str, int]:
        """Return whose the keys are, of those that some call has."""
        select = sa.select(CALLS.c.num, CALLS.c.idempotency)
        possible = [key for key in keys if NUL not in key]
        found = self._ask_some(select, CALLS.c.idempotency, possible)
        return {row.idempotency: row.num for row in found}

    def pieces(self, number: int) -> dict[str, bytes]:
        """Return the big pieces of a call, by digest."""
        select = sa.select(PIECES.c.digest, PIECES.c.data).where(PIECES.c.num == number)
        return {row.digest: row.data for row in self._ask(select)}

    def listed(self, query: Query, after: int | None) -> list[tuple[int, str]]:
        """Return the documents of the next calls of a listing: one more than it wants."""
        number = CALLS.c.num
        select = sa.select(number, CALLS.c.doc).where(*conditions(query))
        down = is_descending(query)
        if after is not None:
            place = min(after, HIGHEST)
            select = select.where(number < place if down else number > place)
        ordered = select.order_by(number.desc() if down else number).limit(query.limit + 1)
        return [(row.num, row.doc) for row in self._ask(ordered)]

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written within durable together, or not at all.

        Raises:
            StoreUnavailable: it may, or may not, have happened.
        """
        with self._explained():
            self._opened().exec_driver_sql(self._dialect.begin)
            yield
            self._opened().commit()

    def make(self) -> None:
        """Make the tables of an empty store, in place of one that is there."""
        connection = self._opened()
        METADATA.drop_all(connection)
        METADATA.create_all(connection)

    def put(self, table: sa.Table, rows: Sequence[Values]) -> int:
        """Write rows, new ones or in the place of others; return how many were."""
        if not rows:
            return 0
        return self._opened().execute(self._upserts[table.name], rows).rowcount

    def drop_pieces(self, stale: Collection[tuple[int, str]]) -> None:
        """Remove pieces (callNum, digest) that no document names any more."""
        for number, digest in stale:
            gone = sa.delete(PIECES).where(PIECES.c.num == number, PIECES.c.digest == digest)
            self._opened().execute(gone)

    def drop_calls(self, numbers: Collection[int]) -> int:
        """Remove calls that have ended, and their pieces; return how many calls were."""
        some, gone = list(numbers), 0
        for first in range(0, len(some), CHUNK):
            chunk = some[first : first + CHUNK]
            ended = sa.delete(CALLS).where(CALLS.c.num.in_(chunk), ENDED)
            gone += self._opened().execute(ended).rowcount
            self._opened().execute(sa.delete(PIECES).where(PIECES.c.num.in_(chunk)))
        return gone

    def _ask_some(
        self, select: sa.Select[Any], column: sa.Column[Any], wanted: Collection[Any]
    ) -> Iterator[Row[Any]]:
        some = list(wanted)
        for first in range(0, len(some), CHUNK):
            yield from self._ask(select.where(column.in_(some[first : first + CHUNK])))

    def _ask(self, select: sa.Select[Any]) -> Sequence[Row[Any]]:
        with self._explained():
            return self._opened().execute(select).all()

    def _scalar(self, statement: str) -> Any:
        found = self._opened().exec_driver_sql(statement)
        return found.scalar() if found.returns_rows else None

    def _opened(self) -> Connection:
        if self._connection is None:
            raise StoreUnavailable(
                f"the store {self.where} was lost", hint="it is connected to again by itself"
            )
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, DBAPIError) and error.orig is not None:
                raise self._explanation(error.orig) from error
            if isinstance(error, SQLAlchemyError):
                raise self._explanation(error) from error
            raise

    def _explanation(self, error: BaseException) -> StoreUnavailable:
        hidden = [value for name, value in self.url.query.items() if "password" in name]
        secrets = [self.url.password, *(str(value) for value in hidden)]
        return sqlerrors.explain(self.where, error, *secrets)


def sqlite_database(path: Path, patience_s: float = greetings.PATIENCE_S) -> Database:
    """Return the database in a file; whoever locks it for so long is told of."""
    dialect = Dialect(
        name="sqlite",
        insert=sqlite.insert,
        begin="BEGIN IMMEDIATE",
        greet=greetings.greet_sqlite,
    )
    # The DB node opens it in one thread and works in another, never in both.
    connect = {"check_same_thread": False, "timeout": patience_s}
    return Database(URL.create("sqlite", database=str(path)), dialect, connect)


def postgresql_database(name: str) -> Database:
    """Return the database of a ``postgresql://`` URL.

    Raises:
        BadRequest: the URL says nothing that could be connected to, or there is no driver.
    """
    try:
        url = sa.make_url(name).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise BadRequest(
            "the store's URL cannot be read",
            hint="say postgresql://USER@HOST:PORT/DATABASE; signs in a password as %XX",
        ) from error
    given = {name: value for name, value in greetings.CONNECT.items() if name not in url.query}
    dialect = Dialect(
        name="postgresql",
        insert=postgresql.insert,
        begin="BEGIN",
        greet=greetings.greet_postgresql,
    )
    try:
        return Database(url, dialect, given)
    except ModuleNotFoundError as error:
        raise BadRequest(
            f"a PostgreSQL store needs the package {error.name}",
            hint="pip install 'psycopg[binary]', or choose another --store",
        ) from error
