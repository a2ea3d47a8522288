"""GET /calls: a page of the store with what memory knows better laid over it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from api.live import Live
from wire.models import Call
from wire.records import CallsListed, ListCalls

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Page(Generic[C]):
    """At most ``limit`` calls in order; ``next`` is the ``after`` of the page behind it."""

    calls: tuple[C, ...]
    next: int | None


def merge(query: ListCalls, stored: CallsListed, living: Iterable[Live]) -> Page[Call | Live]:
    """Lay living calls over a stored page: newer ones replace, others take their place."""
    sign = 1 if query.order == "asc" else -1
    found: dict[int, Call | Live] = {call.call_num: call for call in stored.calls}
    last = stored.calls[-1].call_num * sign if stored.calls and stored.more else None
    for live in living:
        place = live.num * sign
        # What lies beyond a full page belongs to the next one.
        if not (_is_after(query, place, sign) and (last is None or place <= last)):
            continue
        if _matches(query, live):
            found[live.num] = live
        else:
            found.pop(live.num, None)
    places = heapq.nsmallest(query.limit, (num * sign for num in found))
    page = tuple(found[place * sign] for place in places)
    if len(found) > query.limit:
        return Page(page, places[-1] * sign)
    return Page(page, None if last is None else last * sign)


def _is_after(query: ListCalls, place: int, sign: int) -> bool:
    return query.after is None or place > query.after * sign


def _matches(query: ListCalls, live: Live) -> bool:
    name = live.spec.function.function_name
    return query.status in (None, live.status) and query.function in (None, name)
