"""GET /calls: a page of the store with what memory knows better laid over it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wire.models import Call
from wire.records import CallsListed, ListCalls


@dataclass(frozen=True, slots=True)
class Page:
    """At most ``limit`` calls in order; ``next`` is the ``after`` of the page behind it."""

    calls: tuple[Call, ...]
    next: int | None


def merge(query: ListCalls, stored: CallsListed, living: Iterable[Call]) -> Page:
    """Lay living calls over a stored page: newer ones replace, others take their place."""
    sign = 1 if query.order == "asc" else -1
    found = {call.call_num: call for call in stored.calls}
    last = stored.calls[-1].call_num * sign if stored.calls and stored.more else None
    for call in living:
        place = call.call_num * sign
        # What lies beyond a full page belongs to the next one.
        if not (_is_after(query, place, sign) and (last is None or place <= last)):
            continue
        if _matches(query, call):
            found[call.call_num] = call
        else:
            found.pop(call.call_num, None)
    calls = sorted(found.values(), key=lambda call: call.call_num * sign)
    page = tuple(calls[: query.limit])
    if len(calls) > query.limit:
        return Page(page, page[-1].call_num)
    return Page(page, None if last is None else last * sign)


def _is_after(query: ListCalls, place: int, sign: int) -> bool:
    return query.after is None or place > query.after * sign


def _matches(query: ListCalls, call: Call) -> bool:
    return query.status in (None, call.status) and query.function in (None, call.func_name)
