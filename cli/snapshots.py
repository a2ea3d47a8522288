"""Takes snapshots for ``skep top``, again and again, whether the api answers or not."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, Final, Self

from cli.frame import Snapshot
from cli.options import Target
from cli.words import seconds_at
from skep import TERMINAL, Client, SkepError

#: A look that takes longer, in seconds, counts as no answer.
PATIENCE_S: Final = 3.0
_RUNNING: Final = 100
_RECENT: Final = 100
#: Over how many seconds ends are counted for the rate.
_WINDOW_S: Final = 10.0


def take(client: Client) -> Snapshot:
    """Ask for all that a snapshot shows."""
    recent = client.calls(order="desc", limit=_RECENT)
    ended = [one for one in recent if one["status"] in TERMINAL]
    ended.sort(key=lambda one: one["finishedAt"] or "", reverse=True)
    workers: Any = client.workers()
    queues: Any = client.queues()
    now = time.time()
    return Snapshot(
        url=client.url,
        at=now,
        workers=workers,
        queues=sorted(queues, key=lambda one: -int(one["queued"])),
        running=client.calls(status="RUNNING", limit=_RUNNING),
        ended=ended,
        rate=_rate(ended, now),
    )


def _rate(ended: list[Any], now: float) -> float:
    """Return calls ended per second; a full page may reach back less than the window."""
    ends = [seconds_at(one["finishedAt"]) or 0.0 for one in ended]
    window = _WINDOW_S
    if len(ends) >= _RECENT and now - min(ends) < window:
        window = max(0.1, now - min(ends))
    return sum(now - end <= window for end in ends) / window


class Poller:
    """Takes a snapshot at every interval on a thread of its own: keys never wait for it."""

    def __init__(self, target: Target, interval_s: float, first: Snapshot) -> None:
        self._target = target
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots")
        self.latest = first

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._target.client(PATIENCE_S) as client:
            while not self._stop.wait(self._interval_s):
                try:
                    self.latest = take(client)
                except SkepError as error:
                    self.latest = replace(self.latest, trouble=error.message)
