"""What is away for a while, and comes back, changes no call that runs meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import eventually
from tests.faults.plan import freeze, kill, restart
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
