"""Calls that ended and are stored, kept a little while: most are asked for soon after."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from api.live import Live

MAX_CALLS: Final = 1024
MAX_BYTES: Final = 32 << 20


class Finished:
    """The newest finished calls, bounded in count and bytes."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, Live] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Finished {len(self._calls)} calls, {self._bytes} B>"

    def put(self, live: Live) -> None:
        """Keep a call, at the cost of the oldest."""
        if live.num not in self._calls:
            self._calls[live.num] = live
            self._bytes += live.size
        while len(self._calls) > MAX_CALLS or self._bytes > MAX_BYTES:
            _, oldest = self._calls.popitem(last=False)
            self._bytes -= oldest.size

    def get(self, num: int) -> Live | None:
        """Return the call, if it is still here."""
        return self._calls.get(num)
