"""``skep up`` whose processes reach each other through the wires of a test.

    python -P -m tests.faults.wired WIRES [options of skep up]

Everything is as ``skep up`` has it, but for where the api and the workers connect to.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cli.folder import Folder
from cli.plan import DB, PUB, WORKERS, Settings, UpPlan
from cli.running import serve
from cli.screen import Screen
from tests.faults.far import FILE
from wire.process import Started


class WiredPlan(UpPlan):
    """The plan, with wires in between."""

    def __init__(self, settings: Settings, wires: Path) -> None:
        super().__init__(settings)
        self._wires = wires
        file = wires / FILE
        self._far = json.loads(file.read_text()) if file.exists() else {"node": ""}

    def command(self, child: str, *, first: bool) -> list[str]:
        """Return the command line of a child; what it binds stays as it is."""
        words = super().command(child, first=first)
        if child == "api":
            return _led(words, "--db", DB, f"ipc://{self._wires}/db")
        if child == self._far["node"]:
            words = _led(words, "--api", WORKERS, self._far["api"])
            return [*self._far["within"], *_led(words, "--pub", PUB, self._far["pub"])]
        words = _led(words, "--api", WORKERS, f"ipc://{self._wires}/{child}")
        return _led(words, "--pub", PUB, f"ipc://{self._wires}/{child}.pub")


def _led(words: list[str], option: str, place: str, wire: str) -> list[str]:
    pairs = zip(["", *words], words, strict=False)
    return [wire if pair == (option, place) else pair[1] for pair in pairs]


def main() -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("wires", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--idle", type=float)
    parser.add_argument("--sandbox", choices=["docker", "process"], default="process")
    parser.add_argument("--unfinished", choices=["requeue", "fail"], default="requeue")
    given = vars(parser.parse_args())
    wires, data, ready_fd = (given.pop(name) for name in ("wires", "data", "ready_fd"))
    started = Started(process="up", node="up", ready_fd=ready_fd, log_level="warning")
    sys.exit(
        serve(
            Settings(**given), Folder(data), None, Screen(), started,
            plan=lambda settings: WiredPlan(settings, wires),
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
