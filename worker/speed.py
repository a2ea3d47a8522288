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
#: Then what was put there waits for it this long: only behind a function that was fast is
#: anything, and a busy machine makes heads look slow for longer than calling them back costs.
RECALL_S: Final = 0.02
_WEIGHT: Final = 0.2
#: Keys that are remembered; every change of a function makes another.
MAX_KEYS: Final = 10_000

T = TypeVar("T")


class Speeds:
    """The mean execution time of each revision key, newer calls weighing more."""

    def __init__(self) -> None:
        self._mean_ms: OrderedDict[str, float] = OrderedDict()
        self._timed_out: OrderedDict[str, None] = OrderedDict()
        #: The means before a head ran for long, until it is known what it spent that on.
        self._doubted: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Speeds of {len(self._mean_ms)} keys>"

    def __len__(self) -> int:
        return len(self._mean_ms)

    def saw(
        self, key: str, outcome: Outcome, ran_ms: float | None = None, *, was_slow: bool = False
    ) -> None:
        """Learn from an attempt that ended; ``ran_ms`` is what its sandbox says of it.

        What the miniworker measures has the way to the agent and back in it, which for a
        fast function is most of it, and the more the busier the machine. A sandbox that
        claims too little only puts more of its own function's calls behind one another, until
        one of them runs long. If this is a head that ``was_slow`` while the function itself was
        not, it was the machine that had no time for it, and nothing is learnt of the function.
        """
        if outcome.status is Status.TIMEOUT:
            _keep(self._timed_out, key, None)
        took_ms = outcome.duration_ms if ran_ms is None else min(ran_ms, outcome.duration_ms)
        before = self._mean_ms.get(key, took_ms)
        if was_slow:
            doubted = self._doubted.pop(key, before)
            before = doubted if took_ms < LONG_HEAD_S * 1000 else before
        _keep(self._mean_ms, key, before + _WEIGHT * (took_ms - before))

    def slow(self, key: str) -> None:
        """Learn from an attempt that runs for long and has not ended yet."""
        before = self._mean_ms.get(key, 0.0)
        if before < LONG_HEAD_S * 1000:
            _keep(self._doubted, key, before)
            _keep(self._mean_ms, key, LONG_HEAD_S * 1000)

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


def is_long(running_s: float, timeout_ms: int, limit_s: float = LONG_HEAD_S) -> bool:
    """Return whether a head has run for longer than a limit, or a tenth of its timeout."""
    return running_s > limit_s or running_s > timeout_ms / 10_000
