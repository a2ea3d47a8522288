"""Where each process of an installation may be scraped, as a file that Prometheus reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

#: In the folder of sockets: it is there while the installation runs.
FILE: Final = "metrics.json"


class Targets:
    """The targets by process, written anew whenever one has another address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<Targets {self._path}, {len(self._places)} processes>"

    def note(self, process: str, node: str, url: str) -> None:
        """A process serves its metrics at this URL."""
        place = urlsplit(url).netloc
        if place and self._places.get((process, node)) != place:
            self._places[process, node] = place
            self._write()

    def _write(self) -> None:
        said = [
            {"targets": [place], "labels": {"process": process, "node": node}}
            for (process, node), place in self._places.items()
        ]
        # Prometheus reads it whenever it changes: it is the old one or the new one.
        temporary = self._path.with_name(f"{FILE}.new")
        temporary.write_text(json.dumps(said, indent=2) + "\n")
        temporary.rename(self._path)
