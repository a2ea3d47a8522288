"""How fast each function is, and so how many of its calls a miniworker may hold: pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from wire.messages import Outcome
from wire.models import Status

MAX_HELD: Final = 16
#: Calls that take less than this together may be held at once.
HELD_MS: Final = 1.0
#: While its head runs longer than this, a miniworker is given nothing ahead.
LONG_HEAD_S: Final = 0.005
_WEIGHT: Final = 0.2
#: Keys that are remembered; every change of a function makes another.
MAX_KEYS: Final = 10_000

T = TypeVar("T")


class Speeds:
    """The mean execution time of each revision key, newer calls weighing more."""

    def __init__(self) -> None:
        self._mean_ms: OrderedDict[str, float] = OrderedDict()
        self._timed_out: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Speeds of {len(self._mean_ms)} keys>"

    def __len__(self) -> int:
        return len(self._mean_ms)

    def saw(self, key: str, outcome: Outcome) -> None:
        """Learn from an attempt that ended."""
        if outcome.status is Status.TIMEOUT:
            _keep(self._timed_out, key, None)
        before = self._mean_ms.get(key, outcome.duration_ms)
        _keep(self._mean_ms, key, before + _WEIGHT * (outcome.duration_ms - before))

    def slow(self, key: str) -> None:
        """Learn from an attempt that runs for long and has not ended yet."""
        _keep(self._mean_ms, key, max(self._mean_ms.get(key, 0.0), LONG_HEAD_S * 1000))

    def held(self, key: str) -> int:
        """Return how many attempts a miniworker may hold, the running one among them."""
        mean_ms = self._mean_ms.get(key)
        if mean_ms is None or key in self._timed_out:
            return 1
        return max(1, min(MAX_HELD, int(HELD_MS / max(mean_ms, 1e-3))))


def _keep(known: OrderedDict[str, T], key: str, value: T) -> None:
    """Remember something of a key; the one heard of longest ago is forgotten first."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > MAX_KEYS:
        known.popitem(last=False)


def is_long(running_s: float, timeout_ms: int) -> bool:
    """Return whether a head has run so long that nothing more may be put behind it."""
    return running_s > LONG_HEAD_S or running_s > timeout_ms / 10_000
