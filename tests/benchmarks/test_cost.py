"""CPU and memory of an installation's processes, from the real /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import cost, memory
from tests.conftest import eventually

BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
#: Stands for a room: what counts is its command line and its folder.
ROOM = f"x = bytearray(20_000_000)\n{BUSY}print('done', flush=True)\ntime.sleep(60)\n"


def test_what_a_room_spends_is_told_by_the_call() -> None:
    before = {("api", 1): 100.0, ("worker", 2): 50.0}
    after = {("api", 1): 120.0, ("worker", 2): 50.0, ("agent", 3): 10.0}
    spent = cost.per_call(before, after, 10)
    assert spent == {"api": 2, "dbnode": 0, "worker": 0, "miniworker": 0, "agent": 1}


def test_a_process_that_ended_takes_nothing_away() -> None:
    before = {("agent", 1): 500.0, ("agent", 2): 10.0}
    assert cost.per_call(before, {("agent", 2): 20.0}, 10)["agent"] == 1


def test_processes_of_a_folder_are_found_and_measured(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").touch()
    (tmp_path / "api" / "__main__.py").write_text(ROOM)
    with subprocess.Popen(
        [sys.executable, "-m", "api"], cwd=tmp_path, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n"
            folder = str(tmp_path)
            assert cost.rooms(folder) == {process.pid: "api"}
            assert cost.cpu_ms(folder)["api", process.pid] >= 290
            assert 20 < memory.private_mb(process.pid) < 100
            assert memory.control_mb(folder) >= memory.private_mb(process.pid)
            assert memory.room_mb(folder, "worker") == 0
            assert cost.parent(process.pid) == os.getpid()
        finally:
            process.kill()
    eventually(lambda: not cost.rooms(str(tmp_path)), what="it is gone")
    assert memory.private_mb(process.pid) == 0
