"""What is away for a while, there twice, or was missed, changes no call that runs meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import snapshots
from cli.frame import frame
from cli.plan import PUB, WORKERS
from tests.conftest import eventually
from tests.e2e.harness import environment
from tests.faults.plan import freeze, kill, lost_publication, restart
from tests.faults.reckoning import DEATHS
from tests.faults.scene import Scene, scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

#: Long enough to run on while something is away, short of the timeout.
RUN_S = 4.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("live") / "data", 1) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_outlives(made: Scene) -> None:
    """Processes come and go during a test; the end of the scene proves that all went."""


def begun(made: Scene) -> list[int]:
    """Return calls that run by now: one may run again, which would show, one may not."""
    params = {"n": 1, "s": RUN_S, "places": made.load.places}
    with made.hive.client() as client:
        numbers = [client.submit_call(name, params)["callNum"] for name in ("once", "again")]
    eventually(lambda: all(made.witness.executions[n] for n in numbers), 40)
    return numbers


def assert_unmoved(made: Scene, numbers: list[int]) -> None:
    with made.hive.client() as client:
        for number in numbers:
            call = client.wait_call(client.call(number), 40)
            assert (call["status"], len(call["attempts"])) == ("DONE", 1), call
    assert [made.witness.executions[n] for n in numbers] == [1, 1]


@pytest.mark.parametrize("how", [kill, restart])
def test_a_db_node_that_comes_back_changes_no_live_call(made: Scene, how: object) -> None:
    numbers = begun(made)
    before = made.one_of("dbnode")
    assert callable(how)
    how("dbnode", made)
    assert_unmoved(made, numbers)
    eventually(lambda: made.pids("dbnode") not in ([], [before]))


def test_a_frozen_api_loses_no_node_and_no_call(made: Scene) -> None:
    eventually(lambda: all(made.worker_shown(n).get("state") == "up" for n in made.wires.nodes))
    before = {name: made.worker_shown(name)["pid"] for name in made.wires.nodes}
    numbers = begun(made)
    freeze("api", made)
    assert_unmoved(made, numbers)
    after = [made.worker_shown(name) for name in made.wires.nodes]
    assert {one["name"]: one["pid"] for one in after} == before
    assert {one["state"] for one in after} == {"up"}


def test_a_call_that_kills_each_node_it_meets_ends_after_three(made: Scene) -> None:
    params = {"n": 1, "s": RUN_S, "places": made.load.places}
    with made.hive.client() as client:
        number = client.submit_call("again", params)["callNum"]
        met = []
        for died in range(DEATHS):
            eventually(lambda: made.witness.executions[number] > died, 60)  # noqa: B023
            met.append(str(client.call(number)["attempts"][died]["node"]))
            made.strike(met[-1], signal.SIGKILL)
        call = client.wait_call(client.call(number), 60)
    assert (call["status"], call["reason"] and call["reason"]["code"]) == ("LOST", "node_lost")
    assert [one["node"] for one in call["attempts"]] == met
    assert made.witness.executions[number] == DEATHS


def test_a_second_worker_of_a_name_is_refused_and_the_first_serves_on(
    made: Scene, tmp_path: Path
) -> None:
    eventually(lambda: made.worker_shown("node1").get("state") == "up", 40)
    first = made.worker_shown("node1")["pid"]
    places = ["--api", WORKERS.replace("run", str(made.hive.data / "run"))]
    places += ["--pub", PUB.replace("run", str(made.hive.data / "run"))]
    command = [sys.executable, "-P", "-m", "worker", "--name", "node1", *places]
    log = tmp_path / "log"
    with log.open("wb") as output:
        second = subprocess.Popen(
            [*command, "--data", str(tmp_path / "data")], stdout=output, stderr=output,
            env=environment(),
        )  # fmt: skip
    try:
        eventually(lambda: "another living node is called node1" in log.read_text(), 40)
        numbers = begun(made)
        assert made.worker_shown("node1")["pid"] == first
        assert_unmoved(made, numbers)
    finally:
        second.terminate()
        second.wait(40)


def test_a_node_that_missed_the_last_publication_asks_for_it(made: Scene) -> None:
    eventually(lambda: all(made.worker_shown(n).get("state") == "up" for n in made.wires.nodes))

    def passed() -> dict[str, tuple[int, int]]:
        names = made.wires.nodes
        return {
            n: (made.wires.passed(n, "Sync"), made.wires.passed(n, "Catalogue")) for n in names
        }

    before = passed()
    lost_publication(made)
    # Nothing else is published: a heartbeat shows that something is missing.
    eventually(
        lambda: any(
            asked > before[n][0] and answered > before[n][1]
            for n, (asked, answered) in passed().items()
        ),
        what="a node asked, and was answered",
    )


def on_top(made: Scene, name: str) -> str:
    """Return the line of a node in ``skep top``."""
    with made.hive.client() as client:
        drawn = frame(snapshots.take(client), time.time(), 120)
    lines = ("".join(text for text, _ in line) for line in drawn)
    return next(line for line in lines if line.startswith(name))


def test_silence_and_absence_are_seen(made: Scene) -> None:
    made.wires.hold("node2")
    eventually(lambda: made.worker_shown("node2")["silent"])
    eventually(lambda: "silent" in on_top(made, "node2"))
    eventually(lambda: made.worker_shown("node2")["state"] == "gone")
    made.wires.release("node2")
    eventually(lambda: made.worker_shown("node2")["state"] == "up")
    assert not made.worker_shown("node2")["silent"]
