"""Counts that cost next to nothing to keep: plain numbers that a scrape reads. Pure.

Whoever decides something may count it here; what is served to Prometheus is made of it in
``wire.metrics``, only when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from wire.models import Status

#: From what a socket costs to what a cold install may take, in seconds.
SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0),
)
#: How attempts end. Series of known names begin at 0: the first of a kind is seen as a rise.
ENDINGS: Final = (*(status.value for status in Status if status.is_terminal), "RETURNED")


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of docs/observability.md: what a family of numbers is called and means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


class Buckets:
    """A histogram: how many values were at most each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Buckets of {sum(self.counts)} values, {self.total:g} in all>"

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (bound, values at most that) up to infinity."""
        bounds = (*self.bounds, float("inf"))
        return list(zip(bounds, accumulate(self.counts), strict=True))


@dataclass(slots=True)
class Drops:
    """Messages of one link that were dropped, by cause."""

    #: Of a wrong number of frames.
    frames: int = 0
    #: No message of the protocol, or one that its sender may not send.
    garbage: int = 0
    #: To a peer that is gone.
    unroutable: int = 0


#: A metric, the values of its labels, and the number or numbers.
Reading = tuple[Metric, tuple[str, ...], float | Buckets]
Read = Callable[[], Iterable[Reading]]

DROPPED: Final = Metric(
    "skep_dropped_messages_total",
    "counter",
    "Messages dropped: frames (a wrong number of them), garbage (none of the protocol), "
    "unroutable (to a peer that is gone).",
    ("link", "cause"),
)
BUILD: Final = Metric(
    "skep_build_info",
    "gauge",
    "Always 1: which process of which release this is.",
    ("process", "node", "version"),
)
#: What every process has.
COMMON: Final = (BUILD, DROPPED)


def dropped(link: str, drops: Drops) -> Iterable[Reading]:
    """Read what a link has dropped."""
    yield DROPPED, (link, "frames"), drops.frames
    yield DROPPED, (link, "garbage"), drops.garbage
    yield DROPPED, (link, "unroutable"), drops.unroutable
