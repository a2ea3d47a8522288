"""What a database refuses, as an error that says what to do about it: pure.

Nothing that a database says is shown with the password that it was asked with.
"""

from __future__ import annotations

from typing import Final

from wire.errors import StoreUnavailable

_AWAY: Final = "see that the server runs and can be reached; it goes on by itself then"
_DISK: Final = "look at the disk and the rights of the store's folder; nothing was changed"
_ROOM: Final = "make room on its disk (or raise the quota): it goes on by itself then"
_LOCKED: Final = "close what else has it open for writing; it goes on by itself then"
_RIGHTS: Final = "the user of the store's URL must own its tables, or may CREATE in its schema"
_REFUSED: Final = (
    "check user and password; ~/.pgpass or PGPASSFILE keep it out of command lines"
)

#: What SQLite calls an error, by how its name begins: what it means, what to do.
_SQLITE: Final = {
    "SQLITE_FULL": ("is full", _ROOM),
    "SQLITE_BUSY": ("is locked by another program", _LOCKED),
    "SQLITE_LOCKED": ("is locked by another program", _LOCKED),
    "SQLITE_NOTADB": (
        "is not a SQLite database",
        "choose another --store, or put back a copy of the file",
    ),
    "SQLITE_CORRUPT": (
        "is damaged",
        "put back a copy of the file; `sqlite3 FILE .recover` may save what is left",
    ),
    "SQLITE_READONLY": ("cannot be written", _DISK),
    "SQLITE_CANTOPEN": ("cannot be opened", _DISK),
    "SQLITE_IOERR": ("cannot be written or read", _DISK),
}

#: The same for PostgreSQL, by how its SQLSTATE begins.
_POSTGRESQL: Final = {
    "28": ("refuses this user or password", _REFUSED),
    "3D": ("does not have this database", "CREATE DATABASE makes it; skep does not"),
    "42501": ("gives too few rights", _RIGHTS),
    "53100": ("is full", "make room on the server's disk: it goes on by itself then"),
    "25006": ("is read-only", "name the primary in the store's URL, not a standby"),
    "53": ("has too few resources", "see the server's log; it goes on by itself then"),
    "55P03": ("is locked by another session", _LOCKED),
    "57014": ("took too long", "see what the server is busy with; it is tried again"),
    "57": ("is stopping or starting", _AWAY),
    "08": ("does not answer", _AWAY),
}

#: A refused connection has no SQLSTATE, only the server's words.
_WORDS: Final = {
    "password authentication failed": _POSTGRESQL["28"],
    "no password supplied": _POSTGRESQL["28"],
    "no pg_hba.conf entry": _POSTGRESQL["28"],
    "authentication failed": _POSTGRESQL["28"],
    "role ": _POSTGRESQL["28"],
    "database ": _POSTGRESQL["3D"],
}
#: What the drivers call an error that came of the connection, not of what was said over it.
_LOST: Final = ("OperationalError", "InterfaceError", "DatabaseError")
_MAX_SAID: Final = 300


def explain(where: str, error: BaseException, *secrets: str | None) -> StoreUnavailable:
    """Return what an error of a driver means; ``where`` is the store as it may be shown."""
    said = _clean(str(error), secrets)
    what, hint = _meaning(error, said)
    return StoreUnavailable(f"the store {where} {what}: {said}", hint=hint)


def _meaning(error: BaseException, said: str) -> tuple[str, str]:
    name = getattr(error, "sqlite_errorname", None)
    if name is not None:
        return _begins(_SQLITE, name) or ("refuses this", _DISK)
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return _begins(_POSTGRESQL, state) or ("refuses this", "see the server's log")
    if type(error).__name__ not in _LOST:
        return "refuses this", "the DB node's log has the details"
    fatal = said.partition("FATAL: ")[2].strip()
    known = (meaning for words, meaning in _WORDS.items() if fatal.startswith(words))
    return next(known, ("does not answer", _AWAY))


def _begins(table: dict[str, tuple[str, str]], name: str) -> tuple[str, str] | None:
    return next((value for begin, value in table.items() if name.startswith(begin)), None)


def _clean(said: str, secrets: tuple[str | None, ...]) -> str:
    """Return what was said on one line, not too long, and without secrets."""
    for secret in secrets:
        if secret:
            said = said.replace(secret, "***")
    line = " ".join(said.split())
    return line if len(line) <= _MAX_SAID else f"{line[:_MAX_SAID]}…"
