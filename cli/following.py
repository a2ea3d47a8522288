"""Calls as they come and end, and the logs of one until it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from cli.display import is_person
from cli.options import say
from cli.tables import STYLES
from cli.words import clip, span
from skep import TERMINAL, Call, Client, Logs, NotReachable

#: How often the api is asked, in seconds.
PAUSE_S: Final = 1.0
_PAGE: Final = 200
#: Of calls that have not ended, so many are asked for at each look.
_OPEN_AT_ONCE: Final = 50


class Follower:
    """Remembers which calls were seen and are still open, and finds what changed."""

    def __init__(self, client: Client, query: Mapping[str, Any], after: int = 0) -> None:
        self._client = client
        self._query = query
        self._after = after
        self._open: dict[int, str] = {}

    def recent(self) -> list[Call]:
        """Return the newest calls, oldest first; what follows comes after them."""
        found = self._client.calls(order="desc", limit=_PAGE, **self._query)[::-1]
        return [self._noted(one) for one in found]

    def skip(self) -> None:
        """Take what there is as seen."""
        for one in self._client.calls(order="desc", limit=1):
            self._after = max(self._after, one["callNum"])

    def look(self) -> list[Call]:
        """Return the calls that are new or whose status changed since the last look."""
        changed = []
        for number in list(self._open)[:_OPEN_AT_ONCE]:
            # To the end of the line: however many are open, each has its turn.
            before = self._open.pop(number)
            one = self._noted(self._client.call(number))
            if one["status"] != before:
                changed.append(one)
        return changed + [self._noted(one) for one in self._new()]

    def _new(self) -> list[Call]:
        found: list[Call] = []
        while page := self._client.calls(
            order="asc", limit=_PAGE, after=self._after, **self._query
        ):
            found += page
            self._after = page[-1]["callNum"]
        return found

    def _noted(self, one: Call) -> Call:
        number = one["callNum"]
        self._after = max(self._after, number)
        if one["status"] in TERMINAL:
            self._open.pop(number, None)
        else:
            self._open[number] = one["status"]
        return one


def changes(
    client: Client, query: Mapping[str, Any], count: int, status: str | None = None
) -> Iterator[Call]:
    """Give the newest calls, then every one that begins or changes, without end.

    The status is looked at here: a call that is not there yet may come to it.
    """
    follower = Follower(client, query)
    recent = [one for one in follower.recent() if status in (None, one["status"])]
    yield from recent[-count:]
    for found in _looks(follower):
        yield from (one for one in found if status in (None, one["status"]))


def _looks(follower: Follower) -> Iterator[list[Call]]:
    """Give what each look finds; while skep is away, say so once and go on."""
    is_away = False
    while True:
        time.sleep(PAUSE_S)
        try:
            found = follower.look()
        except NotReachable as error:
            if not is_away:
                say(f"({error.message}; still trying)")
            is_away = True
            continue
        if is_away:
            say("(skep is back)")
        is_away = False
        yield found


def logs(client: Client, number: int) -> Logs:
    """Return the logs of a call once it has ended."""
    client.wait_call(client.call(number))
    return client.logs(number)


def line(one: Call, width: int) -> str:
    """Say in one line what a call is at."""
    stamp = (one["finishedAt"] or one["startedAt"] or one["acceptedAt"])[11:19]
    status = f"{one['status']:<9}"
    head = f"{stamp}  {one['callNum']:>6}  "
    tail = f"  {one['funcName']}  {_rest(one)}"
    if is_person():
        tail = "  " + clip(tail, max(20, width - len(head) - len(status) - 2))
    return f"{head}{click.style(status, fg=_colour(one['status']))}{tail}"


def _rest(one: Call) -> str:
    params = clip(json.dumps(one["params"], ensure_ascii=False), 40)
    if one["status"] not in TERMINAL:
        return params
    reason = one["reason"]
    outcome = f"[{reason['code']}] {reason['message']}" if reason else one["result"]
    took = f" ({one['start']}, {span(one['duration'])})" if one["start"] else ""
    return f"{params} -> {clip(outcome, 80)}{took}"


def _colour(status: str) -> str | None:
    return STYLES.get(status)
