"""The clients of task systems: one that waits for each, and so many tasks under way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

#: The same sixty bytes for all.
PAYLOAD: Final = "0123456789" * 6
IN_FLIGHT: Final = 32
WARM_UP: Final = 50

Submit = Callable[[], Any]
Wait = Callable[[Any], str]


def measure(submit: Submit, wait: Wait, calls: int) -> None:
    """Print the latencies in seconds of one client, and the rate with 32 under way, as JSON.

    Tasks are waited for in the order they were submitted in: the rate is that of a window
    that slides, not of waves.
    """
    for _ in range(WARM_UP):
        _check(wait(submit()))
    latencies = []
    for _ in range(calls):
        began = time.perf_counter()
        _check(wait(submit()))
        latencies.append(time.perf_counter() - began)
    began = time.perf_counter()
    under_way = [submit() for _ in range(IN_FLIGHT)]
    for number in range(2 * calls):
        _check(wait(under_way[number]))
        under_way[number] = None
        under_way.append(submit() if number + IN_FLIGHT < 2 * calls else None)
    rate = 2 * calls / (time.perf_counter() - began)
    print(json.dumps({"latencies": latencies, "rate": rate}), flush=True)


def _check(answer: str) -> None:
    if answer != PAYLOAD:
        raise SystemExit(f"answered {answer!r}")
