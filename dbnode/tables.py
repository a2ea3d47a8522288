"""What the SQL store keeps, as SQLAlchemy knows it: tables, indexes, and how rows are written.

Rows are small: what a listing filters by is a column, all else of a record one document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

from dbnode.listing import Query
from wire.records import UnfinishedCalls

#: The highest number that a column holds.
HIGHEST: Final = (1 << 63) - 1

#: PostgreSQL knows no text with it, so no name has it; but one may be asked for.
NUL: Final = "\0"

Values = Mapping[str, Any]

METADATA: Final = sa.MetaData()
#: SQLite keeps rows in the order of an INTEGER key, and of no other.
_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: A condition of an index counts only where a query says it in the same words.
_OPEN: Final = "status IN ('PENDING', 'RUNNING')"


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, _NUMBER, primary_key=key, autoincrement=False, nullable=False)


#: What the store is (schema, epoch), and its ledger.
ABOUT: Final = sa.Table("skep_store", METADATA, _text("name", key=True), _text("value"))
#: The changes of the catalogue.
ITEMS: Final = sa.Table("skep_items", METADATA, _number("seq", key=True), _text("doc"))
CALLS: Final = sa.Table(
    "skep_calls",
    METADATA,
    _number("num", key=True),
    _number("rev"),
    _number("epoch"),
    *(_text("api"), _text("project"), _text("function"), _text("status")),
    sa.Column("idempotency", sa.Text),
    _text("doc"),
    sa.Index("skep_calls_by_status", "status", "num"),
    sa.Index("skep_calls_by_function", "function", "num"),
    sa.Index("skep_calls_by_both", "function", "status", "num"),
)
#: Whether a call has ended, or has not.
ENDED: Final = sa.text(f"NOT ({_OPEN})")
OPEN: Final = sa.text(_OPEN)
sa.Index(
    "skep_calls_open",
    CALLS.c.api,
    CALLS.c.num,
    sqlite_where=OPEN,
    postgresql_where=OPEN,
)
_HAS_KEY: Final = CALLS.c.idempotency.is_not(None)
sa.Index(
    "skep_calls_by_key",
    CALLS.c.idempotency,
    sqlite_where=_HAS_KEY,
    postgresql_where=_HAS_KEY,
)
#: Params, results and logs that are too big for their call's row.
PIECES: Final = sa.Table(
    "skep_pieces",
    METADATA,
    _number("num", key=True),
    _text("digest", key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
#: How many calls of each function are stored.
COUNTS: Final = sa.Table("skep_counts", METADATA, _text("name", key=True), _number("calls"))


def upserts(insert: Callable[[sa.Table], Any]) -> dict[str, Any]:
    """Return the statement that writes rows of each table."""
    calls, counts = insert(CALLS), insert(COUNTS)
    new = calls.excluded
    # The rules of a record once more, where nothing can come between them and the write: a
    # revision only rises, an older life of an api writes nothing, and an end is final.
    is_newer = sa.and_(
        CALLS.c.rev < new.rev,
        CALLS.c.epoch <= new.epoch,
        sa.or_(sa.text(f"{CALLS.name}.{_OPEN}"), CALLS.c.status == new.status),
    )
    total = COUNTS.c.calls + counts.excluded.calls
    return {
        ABOUT.name: _replacing(insert(ABOUT), ABOUT),
        ITEMS.name: _replacing(insert(ITEMS), ITEMS),
        PIECES.name: _replacing(insert(PIECES), PIECES),
        CALLS.name: _replacing(calls, CALLS, where=is_newer),
        COUNTS.name: counts.on_conflict_do_update(
            index_elements=[COUNTS.c.name], set_={"calls": total}
        ),
    }


def _replacing(insert: Any, table: sa.Table, where: Any = None) -> Any:
    keys = list(table.primary_key.columns)
    others = [column.name for column in table.columns if not column.primary_key]
    new = {name: insert.excluded[name] for name in others}
    return insert.on_conflict_do_update(index_elements=keys, set_=new, where=where)


def conditions(query: Query) -> Iterator[Any]:
    """Yield what the calls of a listing have in common, as an index finds them."""
    if isinstance(query, UnfinishedCalls):
        yield OPEN
        yield CALLS.c.api == query.api
        return
    if query.status is not None:
        yield CALLS.c.status == str(query.status)
    if query.function is not None:
        yield _is_of(query.function)


def _is_of(name: str) -> Any:
    """Return whether a call is of a function: NAME, or PROJECT/NAME."""
    if NUL in name:
        return sa.false()
    project, slash, rest = name.partition("/")
    bare = CALLS.c.function == name
    if not slash:
        return bare
    return sa.or_(bare, (CALLS.c.project == project) & (CALLS.c.function == rest))
