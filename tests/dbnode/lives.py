"""DB nodes to be killed: each a process of its own, forked from one that has imported all.

A test that starts a hundred would wait for the imports of a hundred. The parent reads a line
of options for each, and forks; the child is a DB node as ``python -m dbnode`` is one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]


class Lives:
    """One DB node after the other, in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._options = options
        with (folder / "dbnode.log").open("ab") as log:
            self._parent = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.dbnode.lives"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "SKEP_BIND": "tcp://127.0.0.1:0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            self.kill()
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        assert self._parent.stdout is not None
        self._parent.stdout.close()
        self._parent.wait(20)

    def start(self) -> str:
        """Start one; return its endpoint once it serves."""
        self._tell({"options": self._options})
        said = json.loads(self._line())
        self._pid = said["pid"]
        return str(said["endpoint"])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it, and see it dead."""
        os.kill(self._pid, number)
        self._pid = 0
        ended = json.loads(self._line())["ended"]
        assert ended == -number, ended

    def _tell(self, order: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(order).encode() + b"\n")
        self._parent.stdin.flush()

    def _line(self) -> bytes:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, "it ended before it served: see dbnode.log"
        return line


def main() -> None:
    """Fork a DB node for each line, and say how each ended."""
    from dbnode import main as dbnode  # noqa: PLC0415
    from dbnode import sql, sqlstore  # noqa: F401, PLC0415

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            sys.stdin.close()
            dbnode.main([*json.loads(line)["options"], "--ready-fd", "1"])
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"ended": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
