"""Random faults, alone and in pairs, for some minutes: ``make torture MINUTES=10 SEED=n``.

The same seed chooses the same faults in the same order; what they meet depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from tests.apart import net
from tests.conftest import children
from tests.e2e.harness import assert_gone
from tests.faults import leaks
from tests.faults.containers import docked
from tests.faults.plan import ENGINE_FAULTS, FAR_FAULTS, FAULTS, MOMENTS, strike
from tests.faults.reckoning import left_behind, reckon
from tests.faults.scene import Scene, scene

#: Of so many faults one is a pair at the same time, one a pair in a row, the others alone.
_DRAWS: Final = ("alone", "alone", "row", "together")


def drawn(dice: random.Random, driver: str) -> tuple[str, list[str]]:
    """Return how to break something next, and what."""
    known = {**FAULTS, **MOMENTS, **(ENGINE_FAULTS if driver == "docker" else FAR_FAULTS)}
    if driver == "docker":
        # Its processes are no children of a miniworker; containers have faults of their own.
        known = {name: known[name] for name in known if "sandbox" not in name}
    how = dice.choice(_DRAWS)
    return how, dice.sample(sorted(known), 1 if how == "alone" else 2)


def together(made: Scene, names: list[str]) -> None:
    """Do faults at the same time; raise what went wrong with any."""
    failed: list[BaseException] = []

    def one(name: str) -> None:
        try:
            strike(made, name)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(name,), name=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def torture(made: Scene, seed: int, minutes: float, driver: str) -> dict[str, Any]:
    """Break what there is until the time is over; return the numbers."""
    dice = random.Random(seed)
    end = time.monotonic() + minutes * 60
    with made.load.running(clients=6):
        made.calm()
        while time.monotonic() < end:
            how, names = drawn(dice, driver)
            said = " and ".join(names) if how == "together" else ", then ".join(names)
            print(f"{end - time.monotonic():6.0f} s left  {said}", flush=True)
            if how == "together":
                together(made, names)
            else:
                strike(made, *names)
            made.calm(dice.randint(5, 40))
    return reckon(made)


@contextmanager
def place() -> Iterator[Path]:
    """Make a folder for all of it; remove it if all went well, else say where it is."""
    folder = Path(tempfile.mkdtemp(prefix="skep-torture-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    except BaseException:
        print(f"what was logged and stored is in {folder}", flush=True)
        raise
    shutil.rmtree(folder)


def main() -> None:
    """Run, and print what became of all calls."""
    parser = argparse.ArgumentParser(description="Faults under load.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--driver", choices=["process", "docker"], default="process")
    parser.add_argument("--unfinished", choices=["requeue", "fail"], default="requeue")
    given = parser.parse_args()
    again = f"make torture MINUTES={given.minutes:g} SEED={given.seed} DRIVER={given.driver}"
    again += f" UNFINISHED={given.unfinished}"
    print(f"seed {given.seed}: the same faults again with {again}", flush=True)
    is_apart = given.driver == "process"
    if is_apart and (why := net.absent()):
        parser.error(f"a node of it is on a network of its own: {why}")
    before = children()
    options = ("--sandbox", given.driver, "--unfinished", given.unfinished)
    with (
        place() as folder,
        docked(folder) if given.driver == "docker" else nullcontext() as dock,
    ):
        with scene(folder / "data", given.seed, *options, dock=dock, is_apart=is_apart) as made:
            told = torture(made, given.seed, given.minutes, given.driver)
        print("the same faults three times: what the third leaves, and the second", flush=True)
        calm = ("--idle", str(leaks.IDLE_S), *options)
        with scene(folder / "calm", given.seed, *calm, dock=dock) as made:
            told["sizes after one run, and after another"] = leaks.twice(made)
        if dock is not None:
            dock.assert_empty()
            before |= dock.processes()
        for data in (folder / "data", folder / "calm"):
            assert_gone(data, before)
            assert (left := left_behind(data)) == [], left
    asked = ("seed", "minutes", "driver", "unfinished")
    numbers = {name: getattr(given, name) for name in asked}
    print(json.dumps({**numbers, **told, "violations": 0}, indent=2))


if __name__ == "__main__":
    main()
