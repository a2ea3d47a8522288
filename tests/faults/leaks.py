"""The same faults twice leave an installation as large as once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.plan import cut, kill, lose
from tests.faults.reckoning import reckon
from tests.faults.scene import Scene, scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = 120
#: How much larger anything may be after the second run than after the first.
GROWTH = 1.10


def sizes(made: Scene) -> dict[str, int]:
    """Return memory of its own (KiB), descriptors and threads of each process."""
    found = {}
    for name in ("api", "dbnode", *made.wires.nodes):
        place = Path(f"/proc/{made.one_of(name)}")
        rollup = (place / "smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
        found[f"{name} memory"] = own
        found[f"{name} descriptors"] = len(list((place / "fd").iterdir()))
        found[f"{name} threads"] = len(list((place / "task").iterdir()))
    return found


def run(made: Scene) -> dict[str, int]:
    """Have calls made and things broken; return how large all is when it rests again."""
    with made.load.running(clients=6, calls=CALLS):
        for name in ("miniworker", "zygote", "sandbox"):
            kill(name, made)
        cut("node", made, for_s=1)
        lose("db", made)
        lose("pub", made)
    eventually(lambda: at_rest(made), 60, "nothing warm and nothing running")
    return sizes(made)


def at_rest(made: Scene) -> bool:
    shown = [made.worker_shown(name) for name in made.wires.nodes]
    return all(one and one["state"] == "up" and not one["warm"] for one in shown)


def grown(first: dict[str, int], now: dict[str, int]) -> list[str]:
    return [name for name, size in now.items() if size > GROWTH * first[name]]


def test_a_second_run_leaves_nothing_more(tmp_path: Path) -> None:
    with scene(tmp_path / "data", 1, "--idle", "2") as made:
        pids = {name: made.one_of(name) for name in ("api", "dbnode", *made.wires.nodes)}
        run(made)
        first = run(made)
        second = run(made)
        print(json.dumps({name: [first[name], second[name]] for name in first}))
        # What a run leaves to be cleared away in its own time may go a little later.
        eventually(lambda: not grown(first, sizes(made)), 20, "as small as after the first run")
        # The same processes: what is measured was not begun anew.
        assert pids == {name: made.one_of(name) for name in pids}
        reckon(made)
