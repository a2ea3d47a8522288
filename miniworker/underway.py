"""The containers that an engine was asked to make and has not answered for: a file for each.

Whoever asked may be killed meanwhile, and the engine makes it all the same: a look that does
not find it came too early. So it is noted from before the request until the answer, together
with the labels that say whose it would be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

_PLACE: Final = "underway"


class Underway:
    """Those of one node, by the names that the containers will have."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / _PLACE

    def __repr__(self) -> str:
        return f"<Underway in {self._place}>"

    def begin(self, name: str, labels: Mapping[str, str]) -> None:
        """Note that one is about to be asked for."""
        self._place.mkdir(parents=True, exist_ok=True)
        # Whole or not there at all: others read it at any time.
        half = self._place / f".{name}"
        half.write_bytes(msgspec.json.encode(dict(labels)))
        half.rename(self._place / name)

    def end(self, name: str) -> None:
        """Forget one: the engine has answered, or it was found, or it will not come."""
        (self._place / name).unlink(missing_ok=True)

    def of(self, whose: Callable[[Mapping[str, str]], bool]) -> list[str]:
        """Return the names of those whose labels are somebody's."""
        return [name for name, labels in self._all() if whose(labels)]

    def _all(self) -> Iterator[tuple[str, dict[str, str]]]:
        for file in self._place.glob("[!.]*"):
            # Whoever asked may have been answered just now.
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                yield file.name, msgspec.json.decode(file.read_bytes(), type=dict[str, str])
