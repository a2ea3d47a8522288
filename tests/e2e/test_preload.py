"""Preload policies through the front door: ``skep up``, HTTP, and what the record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skep import Client
from tests import engine
from tests.conftest import children, eventually
from tests.e2e.harness import DICE, RUNTIME, assert_gone, up


def told(client: Client, **wanted: Any) -> None:
    """Wait until the one worker says so."""

    def says() -> bool:
        (worker,) = client.workers()
        return all(dict(worker)[name] == value for name, value in wanted.items())

    eventually(says, 40, f"a worker with {wanted}, not {client.workers()}")


def first(client: Client, name: str) -> dict[str, Any]:
    call = client.submit_call(name, {"roll": "4d6"}, wait=30)
    assert call["status"] == "DONE", call
    return dict(call)


def test_policies_of_a_node_and_of_its_functions(tmp_path: Path) -> None:
    before = children()
    name = RUNTIME["name"]
    with up(tmp_path / "d", "--preload", "runtime", "--sandbox", "process") as running:
        with running.client() as client:
            client.register_runtime(RUNTIME)
            told(client, preload="runtime", generic={name: 2})
            client.register_function(name, "dice", DICE)
            call = first(client, "dice")
            why = call["attempts"][0]["why"]
            assert f"a waiting generic sandbox of {name} was taken" in why
            assert call["start"] == "cold"
            # What is left of it is not the making of a sandbox.
            assert call["stages"].get("sandbox", 0) < call["stages"]["fetch"] + 50
            told(client, generic={name: 2}, warm={"default/dice@1.1": 1})

            client.update_function("dice", minWarm=2)
            told(client, warm={"default/dice@2.1": 2})
            assert first(client, "dice")["start"] == "warm"
            told(client, hitRatio=0.5, genericHitRatio=1.0)

            client.register_function(name, "plain", DICE, preload="none")
            call = first(client, "plain")
            assert "generic" not in call["attempts"][0]["why"]
            assert call["stages"]["sandbox"] > 0

            client.delete_function("dice")
            client.delete_function("plain")
            told(client, warm={}, generic={name: 2})
        assert running.end() == 0
    assert_gone(tmp_path / "d", before)


@pytest.mark.docker
@pytest.mark.timeout(400)
def test_containers_wait_too_and_leave_with_their_worker(tmp_path: Path) -> None:
    runtime = {**RUNTIME, "image": engine.python_image()}
    name = runtime["name"]
    before = children()
    with up(tmp_path / "d", "--preload", "runtime", "--sandbox", "docker") as running:
        with running.client() as client:
            client.register_runtime(runtime)
            told(client, sandbox="docker", generic={name: 2})
            installation = (tmp_path / "d" / "installation").read_text()
            assert len(engine.containers(installation)) == 2
            client.register_function(name, "dice", DICE)
            client.register_function(name, "kept", DICE, preload="function")
            call = first(client, "dice")
            assert "generic sandbox" in call["attempts"][0]["why"]
            told(client, generic={name: 2}, warm={"default/dice@1.1": 1, "default/kept@1.1": 1})
            assert first(client, "kept")["start"] == "warm"
        assert running.end() == 0
        eventually(lambda: not engine.containers(installation), 30, "containers are left")
    assert_gone(tmp_path / "d", before)
