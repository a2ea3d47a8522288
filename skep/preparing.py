"""A registration that installs first: the installer's output live, then how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from skep.dialogue import Dialogue, Pace, Request, exchange
from skep.errors import from_answer
from skep.ndjson import NDJSON, Lines
from skep.records import Function
from skep.spelling import decode


class Preparation:
    """Reads one JSON object a line: ``{"log": …}``, and at last the status and its answer."""

    def __init__(self, on_log: Callable[[str], object] | None) -> None:
        self._on_log = on_log
        self._last: tuple[int, dict[str, Any], bytes] | None = None
        self._lines = Lines(self._begin, self._take_line)

    def dialogue(self, request: Request, limit_s: float, pace: Pace) -> Dialogue[Function]:
        """Send a registration that may take so long; return the function."""
        request = replace(request, query={**request.query, "prepare": "true"}, wait_s=limit_s)
        if self._on_log is not None:
            headers = {**request.headers, "Accept": NDJSON}
            request = replace(request, headers=headers, on_piece=self.take)
        answer = yield from exchange(request, pace)
        if self._last is None:
            # Not one line a piece of news: an answer as to any other request.
            function: Function = decode(answer)
            return function
        status, said, line = self._last
        if "function" not in said:
            raise from_answer(status, line)
        return cast("Function", said["function"])

    def take(self, piece: bytes) -> None:
        """Take the next bytes of the answer; an empty piece begins it anew."""
        self._lines.take(piece)

    def _begin(self) -> None:
        self._last = None

    def _take_line(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            status, log = int(said.get("status", 0)), said.get("log")
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise from_answer(200, line) from None
        if status:
            self._last = (status, said, line)
        elif log and isinstance(log, str) and self._on_log is not None:
            # An empty one only says that the installer is still at it.
            self._on_log(log)
