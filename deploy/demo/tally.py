"""What the records of many calls say together: who ran what, what ran again, what is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Record = dict[str, Any]
UNFINISHED: Final = frozenset({"PENDING", "RUNNING"})


@dataclass(frozen=True)
class Tally:
    """The records of one batch of calls."""

    records: Sequence[Record]

    @property
    def statuses(self) -> Counter[str]:
        """Return how many calls have which status."""
        return Counter(one["status"] for one in self.records)

    @property
    def ended(self) -> int:
        """Return how many calls are in a terminal state."""
        return sum(one["status"] not in UNFINISHED for one in self.records)

    def ran_on(self, node: str) -> Counter[str]:
        """Return how many calls of which function ended DONE on a node."""
        return Counter(
            one["funcName"]
            for one in self.records
            if one["status"] == "DONE" and one["node"] == node
        )

    def running_on(self, node: str) -> set[str]:
        """Return the functions that have a call running on a node."""
        return {
            one["funcName"]
            for one in self.records
            if one["status"] == "RUNNING" and one["node"] == node
        }

    def moved_from(self, node: str) -> list[Record]:
        """Return the calls that had an attempt on a node, and a later one elsewhere."""
        return [
            one
            for one in self.records
            if node in {tried["node"] for tried in one["attempts"][:-1]}
            and one["attempts"][-1]["node"] != node
        ]

    def of(self, *statuses: str) -> list[Record]:
        """Return the calls in one of these states."""
        return [one for one in self.records if one["status"] in statuses]

    def pi(self) -> tuple[float, int]:
        """Return what the darts of all DONE calls make of π, and how many darts they are."""
        results = [json.loads(one["result"]) for one in self.of("DONE")]
        darts = sum(one["darts"] for one in results)
        return 4 * sum(one["hits"] for one in results) / max(1, darts), darts


def had_begun(record: Record, node: str) -> bool:
    """Whether an attempt of the call on a node had begun."""
    return any(one["node"] == node and one["startedAt"] for one in record["attempts"])


def names(records: Iterable[Record], width: int) -> str:
    """Return the names of calls (c1 c2 …) as far as ``width`` characters go."""
    line = ""
    for one in records:
        name = f"c{one['callNum']} "
        if len(line) + len(name) > width:
            return f"{line}…"
        line += name
    return line.rstrip()
