"""When each call next needs a look: one moment a call, swept by one timer."""

from __future__ import annotations

import heapq


class Agenda:
    """Calls by the moment that they are due; ``now`` is handed in."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __repr__(self) -> str:
        return f"<Agenda of {len(self._due)} calls>"

    def set(self, num: int, at: float) -> None:
        """Look at this call at ``at``, and not before (an earlier wish is replaced)."""
        self._due[num] = at
        heapq.heappush(self._heap, (at, num))
        # Replaced and cleared entries stay in the heap: sweep them before they outnumber it.
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [(at, num) for num, at in self._due.items()]
            heapq.heapify(self._heap)

    def clear(self, num: int) -> None:
        """Nothing is due for this call any more."""
        self._due.pop(num, None)

    def take(self, now: float) -> list[int]:
        """Return the calls that are due, earliest first; each is cleared."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, num = heapq.heappop(self._heap)
            if self._due.get(num) == at:
                del self._due[num]
                found.append(num)
        return found
