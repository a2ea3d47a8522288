"""What a process tells Prometheus.

Nothing is updated while calls run: a scrape reads the plain counts that the rooms keep
(``wire.counting``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wire.counting import COMMON, Metric, Read
from wire.process import release

if TYPE_CHECKING:
    from wire.exposing import Registry


class Exposition:
    """The page of one process: the metrics of its table, read anew at each scrape."""

    def __init__(self, process: str, node: str, metrics: Sequence[Metric], read: Read) -> None:
        self._build = (process, node, release())
        self._metrics = (*COMMON, *metrics)
        self._read = read
        self._registry: Registry | None = None

    def __repr__(self) -> str:
        return f"<Exposition of {' '.join(self._build)}>"

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type, in the format that a scraper accepts."""
        if self._registry is None:
            # 0.1 s and 5 MB that most processes never need; the loop goes on meanwhile.
            made = await asyncio.to_thread(_exposing)
            self._registry = made(self._build, self._metrics, self._read)
        return self._registry.page(accept)


def _exposing() -> type[Registry]:
    from wire.exposing import Registry  # noqa: PLC0415

    return Registry
