"""How far an image has come on its way from or to a registry: an engine's lines in, words out.

Pure. An engine tells of each layer by itself; a person wants one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: What an engine says of a layer that needs no more bytes.
_THERE: Final = frozenset(
    {"Already exists", "Download complete", "Verifying Checksum", "Pull complete", "Pushed",
     "Layer already exists", "Extracting"}
)  # fmt: skip
_MOVING: Final = frozenset({"Downloading", "Pushing"})


class Transfer:
    """The layers of one image."""

    def __init__(self) -> None:
        #: Bytes there and bytes in all, by layer.
        self._layers: dict[str, tuple[int, int]] = {}
        #: What the engine complained of, if it did.
        self.error = ""

    def __repr__(self) -> str:
        return f"<Transfer of {len(self._layers)} layers, {self.percent} %>"

    @property
    def percent(self) -> int:
        """Return how many of the bytes that are known of are there."""
        there = sum(one for one, _ in self._layers.values())
        whole = sum(size for _, size in self._layers.values())
        return 100 * there // whole if whole else 0

    def take(self, line: Mapping[str, Any]) -> bool:
        """Take in what the engine said; return whether the number is another now."""
        before = self.percent
        self.error = self.error or str(line.get("error") or "")
        layer, status = line.get("id"), line.get("status")
        if not layer:
            return False
        if status in _MOVING:
            told = line.get("progressDetail") or {}
            there = int(told.get("current") or 0)
            whole = max(int(told.get("total") or 0), there)
            self._layers[layer] = there, whole
        elif status in _THERE and layer in self._layers:
            whole = self._layers[layer][1]
            self._layers[layer] = whole, whole
        return self.percent != before
