"""What ``skep up`` itself tells Prometheus: which children live, and how often they died."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cli.hive import Hive
from cli.supervisor import State
from wire.counting import Metric, Reading
from wire.metrics import Exposition

READY: Final = Metric(
    "skep_up_child_ready", "gauge", "1 while a process serves, else 0.", ("child",)
)
STARTS: Final = Metric(
    "skep_up_child_starts_total",
    "counter",
    "How often a process was started; all after the first are restarts.",
    ("child",),
)
EXITS: Final = Metric(
    "skep_up_child_exits_total",
    "counter",
    "How often a process ended: status (its exit status), signal (killed).",
    ("child", "how"),
)
METRICS: Final = (READY, STARTS, EXITS)


class Metrics:
    """The page of one hive."""

    def __init__(self, hive: Hive) -> None:
        self._hive = hive
        self._page = Exposition("up", "up", METRICS, self._read)

    def __repr__(self) -> str:
        return f"<Metrics of {self._hive!r}>"

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return await self._page.page(accept)

    def _read(self) -> Iterable[Reading]:
        return _children(self._hive)


def _children(hive: Hive) -> Iterator[Reading]:
    for child, count in hive.starts.items():
        yield READY, (child,), int(hive.state_of(child) is State.READY)
        yield STARTS, (child,), count
    yield from ((EXITS, key, count) for key, count in hive.exits.items())
