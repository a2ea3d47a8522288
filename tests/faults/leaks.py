"""Whether the same faults leave an installation larger the second time than the first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.conftest import eventually
from tests.faults.plan import cut, kill, kill_container, lose
from tests.faults.reckoning import reckon
from tests.faults.scene import Scene

CALLS: Final = 120
#: Sandboxes leave after so many seconds: then an installation is as small as it gets.
IDLE_S: Final = 2
#: How much larger anything may be after the second run than after the first.
GROWTH: Final = 1.10


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
        for name in ("miniworker", "zygote"):
            kill(name, made)
        if made.dock is None:
            kill("sandbox", made)
        else:
            kill_container(made)
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


def twice(made: Scene) -> dict[str, list[int]]:
    """Do the same twice; return each size after the first and the second time.

    Fails if anything grew by more than a tenth, soon after the second, or was begun anew.
    """
    pids = {name: made.one_of(name) for name in ("api", "dbnode", *made.wires.nodes)}
    # The first of all makes what stays: modules, buffers, a runtime's bundle.
    run(made)
    first = run(made)
    second = run(made)
    # What a run leaves to be cleared away in its own time may go a little later.
    eventually(lambda: not grown(first, sizes(made)), 20, "as small as after the first run")
    assert pids == {name: made.one_of(name) for name in pids}
    reckon(made)
    return {name: [first[name], second[name]] for name in first}
