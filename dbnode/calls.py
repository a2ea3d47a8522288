"""The rules of a call's record: rising revisions, one terminal state, written once.

Pure. A write is the whole record, but what is big and unchanged need not travel, nor be
read from the disk to be kept: an ``Entry`` says which of its fields stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from wire.errors import BadRequest, Conflict
from wire.models import Attempt, CallRecord
from wire.records import WriteCalls

#: How long the Idempotency-Key of a call is known at least, from its acceptance on.
KEY_KNOWN_MS: Final = 24 * 3600 * 1000
#: The fields of a record whose bytes a store may hold elsewhere.
CONTENT: Final = ("params", "result", "logs")
_NO_PARAMS: Final = msgspec.Raw(b"{}")
_HIGHEST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as far as it is at hand; ``held`` names the fields that the store has."""

    record: CallRecord
    held: frozenset[str] = frozenset()

    @property
    def function_key(self) -> str:
        """Return the name that calls are counted under: ``project/function``."""
        return f"{self.record.call.project}/{self.record.call.func_name}"

    @property
    def key(self) -> str | None:
        """Return what the call is found by beside its number: ``project/key``, or None."""
        return keyed(self.record.call.project, self.record.idempotency_key)


def keyed(project: str, key: str | None) -> str | None:
    """Return the name that an Idempotency-Key is looked up under; keys are a project's."""
    return None if key is None else f"{project}/{key}"


def instant_ms(text: str | None) -> int | None:
    """Return a point in time as milliseconds since 1970; None for what is none."""
    try:
        return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def check(request: WriteCalls) -> None:
    """Refuse a write that no api may make.

    Raises:
        BadRequest: a record names another writer, or what no store can hold.
    """
    for record in request.records:
        if max(record.call.call_num, record.rev, request.epoch) > _HIGHEST:
            raise BadRequest(
                f"call {record.call.call_num}, rev {record.rev}, epoch {request.epoch}: "
                "one of these is no number that a store can hold",
                hint=f"the highest is {_HIGHEST}",
            )
        if "\0" in record.call.project + record.call.func_name:
            raise BadRequest(f"call {record.call.call_num} has a name with a NUL in it")
        if record.api != request.api:
            raise BadRequest(
                f"call {record.call.call_num} is of api {record.api!r}, "
                f"written by {request.api!r}",
                hint="an api writes the records of its own calls alone",
            )
        try:
            str(record.call.params, "utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(f"params of call {record.call.call_num}: {error}") from error


def check_key(entry: Entry, holder: int | None) -> None:
    """Refuse a record whose key another call has.

    Raises:
        Conflict: one key, two calls.
    """
    if holder not in (None, entry.record.call.call_num):
        raise Conflict(
            f"call {entry.record.call.call_num} has the Idempotency-Key of call {holder}",
            hint=f"GET /call/{holder} shows the call that was accepted with it",
        )


def merge(stored: Entry | None, new: CallRecord) -> Entry | None:
    """Return what is to be stored; None if what is stored is as new or newer.

    Raises:
        Conflict: the call is another api's.
    """
    if stored is None:
        call = new.call if new.call.params else replace(new.call, params=_NO_PARAMS)
        return Entry(replace(new, call=call))
    if stored.record.api != new.api:
        raise Conflict(
            f"call {new.call.call_num} belongs to api {stored.record.api!r}",
            hint="an api writes the calls of the numbers it leased alone",
        )
    if new.rev <= stored.record.rev:
        return None
    is_terminal = stored.record.call.status.is_terminal
    return _grown(stored, new) if is_terminal else _replaced(stored, new)


def _replaced(stored: Entry, new: CallRecord) -> Entry:
    held: set[str] = set()
    if not new.call.params:
        new = replace(new, call=replace(new.call, params=stored.record.call.params))
        held |= stored.held & {"params"}
    if new.logs is None:
        new = replace(new, logs=stored.record.logs)
        held |= stored.held & {"logs"}
    return Entry(new, frozenset(held))


def _grown(stored: Entry, new: CallRecord) -> Entry:
    """Keep how a call ended; only attempts that still ran may tell their end."""
    old = stored.record
    attempts = tuple(_grow(old.call.attempts, new.call.attempts))
    has_logs = old.logs is not None or "logs" in stored.held
    record = replace(
        old,
        rev=new.rev,
        epoch=new.epoch,
        call=replace(old.call, attempts=attempts),
        logs=old.logs if has_logs else new.logs,
    )
    return Entry(record, stored.held)


def _grow(old: Iterable[Attempt], new: Iterable[Attempt]) -> list[Attempt]:
    known = {attempt.attempt: attempt for attempt in old}
    for attempt in new:
        before = known.get(attempt.attempt)
        if before is None or before.status is None or not before.status.is_terminal:
            known[attempt.attempt] = attempt
    return [known[number] for number in sorted(known)]
