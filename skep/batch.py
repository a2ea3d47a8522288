"""Many calls in one request: a line for each, and the lines that come back as they end.

Each line carries an ``Idempotency-Key``, so that whatever breaks off is sent again, and what
was made the first time is answered, not made once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from skep.dialogue import (
    PASSING,
    Answer,
    Dialogue,
    Lost,
    Pace,
    Pause,
    Request,
    error_of,
    may_pass,
)
from skep.errors import SkepError, from_answer
from skep.ndjson import NDJSON, Lines
from skep.records import Call

#: Lines of one request, and their bytes: within what a server works on at once, so that it has
#: read the whole request before it may have to wait for us to read its answer. One line may
#: be longer; it goes alone.
MAX_LINES: Final = 128
MAX_BYTES: Final = 4 << 20
#: The server answers with a record only if the end is waited for, however shortly.
_SHORTEST_S: Final = 0.001


class Entry(Protocol):
    """A line to send, and who is told its call, or why there is none."""

    @property
    def line(self) -> bytes:
        """Return the JSON, on one line."""

    def settle(self, outcome: Call | Exception, /) -> object:
        """Take what became of it."""


class Batch:
    """Lines that travel together, until each is answered."""

    def __init__(
        self,
        entries: Sequence[Entry],
        wait_s: float,
        pace: Pace,
        on_taken: Callable[[], object] = lambda: None,
    ) -> None:
        """``on_taken`` is told whenever the server has begun to answer."""
        self._open = dict(enumerate(entries))
        self._wait_s = wait_s
        self._pace = pace
        self._on_taken = on_taken
        self._sent: list[int] = []
        self._passing: dict[int, SkepError] = {}
        self._is_read = False

    def __repr__(self) -> str:
        return f"<Batch, {len(self._open)} open>"

    def dialogue(self) -> Dialogue[None]:
        """Send what is open until nothing is, or no more attempts are allowed.

        A call whose end does not come within the wait is told as it stands.

        Raises:
            SkepError: it cannot be done; it holds for each line that is open.
        """
        pace, failures, spent_s = self._pace, 0, 0.0
        while self._open:
            request, before, began = self._request(), len(self._open), pace.clock()
            reply: Answer | Lost = yield replace(request, limit_s=pace.timeout_s - spent_s)
            if not self._is_read and not may_pass(reply):
                raise error_of(reply)
            if not self._open:
                return
            if len(self._open) < before:
                # However often the line breaks: it goes on.
                failures, spent_s = 0, 0.0
            failures += 1
            spent_s += max(0.0, pace.clock() - began - request.wait_s)
            pause_s = pace.pause_s(failures, reply)
            if not pace.may_retry(request, failures) or spent_s + pause_s >= pace.timeout_s:
                self._settle_refused()
                self.fail(error_of(reply))
                return
            yield Pause(pause_s)
            spent_s += pause_s

    def fail(self, error: Exception) -> None:
        """Tell an error to all that is open."""
        entries, self._open = list(self._open.values()), {}
        for entry in entries:
            entry.settle(error)

    def _request(self) -> Request:
        self._passing.clear()
        self._is_read = False
        self._sent = list(self._open)
        lines = Lines(self._begin, self._take)
        return Request(
            method="POST",
            path="/invokeFunctions",
            query={"wait": f"{max(self._wait_s, _SHORTEST_S):.3f}"},
            headers={"Content-Type": NDJSON},
            content=b"\n".join(entry.line for entry in self._open.values()),
            wait_s=self._wait_s,
            on_piece=lines.take,
        )

    def _begin(self) -> None:
        self._is_read = True
        self._on_taken()

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            place, status = self._sent[said["index"]], int(said["status"])
            call: Call | None = said.get("call")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise from_answer(200, line) from None
        if call is not None:
            self._settle(place, call)
        elif status in PASSING:
            self._passing[place] = from_answer(status, line)
        else:
            self._settle(place, from_answer(status, line))

    def _settle(self, place: int, outcome: Call | Exception) -> None:
        # One that an attempt before this one had answered is answered again.
        if entry := self._open.pop(place, None):
            entry.settle(outcome)

    def _settle_refused(self) -> None:
        for place, error in list(self._passing.items()):
            self._settle(place, error)


def next_lot(waiting: Sequence[Entry]) -> int:
    """Return how many of what waits, at least one, go into the next request."""
    size = 0
    for count, entry in enumerate(waiting):
        size += len(entry.line) + 1
        if count and (count == MAX_LINES or size > MAX_BYTES):
            return count
    return len(waiting)
