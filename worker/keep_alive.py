"""Which idle sandbox is worth least: policies, side by side and pure.

*idle*: one leaves when it has waited for its time; beyond ``max_warm`` the one unused longest.
*lru*: none leaves before there are too many; then the one unused longest. *greedy-dual*: the
same, but then the one leaves that is least worth its memory: by how often its function is
called, what making it again would take, and what it holds; and the less the longer ago its
last call is (GDSF, as FaasCache has it).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from worker.boxes import Sandbox

KeepAlive = Literal["idle", "lru", "greedy-dual"]
KEEP_ALIVES: Final[tuple[KeepAlive, ...]] = get_args(KeepAlive)

#: What a sandbox holds beside the memory of its function, in MiB.
BESIDE_MIB: Final = 16


class Worths:
    """The worth of what begins to wait, by one policy."""

    def __init__(self, policy: KeepAlive = "idle") -> None:
        self.policy = policy
        #: The worth of what left last: what is not used again falls behind it.
        self._floor = 0.0
        self._uses: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Worths by {self.policy}, {len(self._uses)} keys, floor {self._floor:.3f}>"

    @property
    def has_time(self) -> bool:
        """Return whether a sandbox leaves after its time, though there is room."""
        return self.policy == "idle"

    def of(self, box: Sandbox, now: float) -> float:
        """Return what a sandbox is worth that begins to wait, after a call or as new."""
        if self.policy != "greedy-dual":
            return now
        uses = self._uses[box.key] = self._uses.get(box.key, 0) + 1
        return self._floor + uses * box.cost_s / _size_mib(box)

    def evicted(self, box: Sandbox) -> None:
        """One left to make room."""
        self._floor = max(self._floor, box.worth) if self.policy == "greedy-dual" else 0.0

    def forget(self, key: str) -> None:
        """No sandbox of this key is left: how often it was used counts no more."""
        self._uses.pop(key, None)


def _size_mib(box: Sandbox) -> float:
    return BESIDE_MIB + (box.spec.function.memory if box.spec else 0)
