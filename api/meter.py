"""What HTTP counts of its requests, by the route's pattern: never by what a client wrote."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from wire.counting import Buckets

#: Stands for a path that is none of ours.
NO_ROUTE: Final = "_none"
OTHER_METHOD: Final = "_other"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Meter:
    """Counts since this api began."""

    def __init__(self) -> None:
        #: By route, method and status.
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[str, Buckets] = defaultdict(Buckets)
        #: Requests that were answered with an error, by its code.
        self.refusals: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Meter of {self.requests.total()} requests>"

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        """A request to a route (or to ``NO_ROUTE``) has its answer."""
        if method not in _METHODS:
            method = OTHER_METHOD
        self.requests[route, method, str(status)] += 1
        self.seconds[route].observe(took_s)
