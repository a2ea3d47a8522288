"""``skep`` on a Docker engine: the seed's function in a container, and all gone at the end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep import Client
from tests import engine
from tests.conftest import children, eventually
from tests.e2e.harness import DICE, RUNTIME, Up, assert_gone, environment, skep, up

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
MISSING = "skep-test/nobody-made-this"


@pytest.fixture(autouse=True)
def image() -> str:
    return engine.python_image()


def register(client: Client, image: str, **function: Any) -> None:
    client.register_runtime({**RUNTIME, "name": "python", "image": image})
    client.register_function("python", "dice", DICE, **function)


def installation(data: Path) -> str:
    return (data / "installation").read_text()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Up]:
    with up(tmp_path / "data", "--sandbox", "auto", "--workers", "2") as running:
        yield running


def test_auto_is_docker_where_an_engine_answers_and_says_so(running: Up) -> None:
    with running.client() as client:
        register(client, engine.PYTHON_IMAGE)
        # Its requirements are installed by the seed's own line, in a container too.
        call = client.submit_call("dice", {"roll": "4d6"}, wait=120)
        assert call["status"] == "DONE", call["reason"]
        assert len(json.loads(call["result"])) == 4
        warm = client.submit_call("dice", {"roll": "2d6"}, wait=60)
        assert (warm["status"], warm["start"]) == ("DONE", "warm")
        assert {worker["sandbox"] for worker in client.workers()} == {"docker"}
    assert "docker: a container for each sandbox" in running.printed()
    assert "skep runtime build python" in running.printed()
    mine = engine.containers(installation(running.data))
    assert mine
    assert running.end() == 0
    assert engine.containers(installation(running.data)) == []


def test_a_missing_image_ends_the_call_and_says_what_to_do(running: Up) -> None:
    with running.client() as client:
        register(client, MISSING)
        call = client.submit_call("dice", {"roll": "1d6"}, wait=60)
    assert call["status"] == "FAILED"
    reason = call["reason"]
    assert reason is not None
    assert reason["code"] == "image_unavailable"
    assert f"docker pull {MISSING}" in reason["message"]


def test_nothing_runs_on_and_nothing_stays_when_all_is_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = children()
    with up(data, "--sandbox", "docker") as running:
        with running.client() as client:
            register(client, engine.PYTHON_IMAGE)
            assert client.submit_call("dice", {"roll": "1d6"}, wait=120)["status"] == "DONE"
        (container,) = engine.containers(installation(data))
        worker = running.child("worker")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: container not in engine.containers(installation(data)))
        eventually(lambda: running.child("worker") not in (0, worker))
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not engine.containers(installation(data)))
    assert_gone(data, before)


def test_two_installations_and_two_workers_do_not_touch_each_others_containers(
    tmp_path: Path,
) -> None:
    options = ("--sandbox", "docker")
    with up(tmp_path / "one", *options, "--workers", "2") as one, one.client() as client:
        mine = installation(one.data)
        # The last node that got one is the last that gets another.
        register(client, engine.PYTHON_IMAGE, policy="round-robin", idle=600)
        for _ in range(2):
            assert client.submit_call("dice", {"roll": "1d6"}, wait=120)["status"] == "DONE"
        first, second = (of_node(one, f"node{n}") for n in (1, 2))
        assert len(first) == len(second) == 1
        with up(tmp_path / "two", *options) as two:
            # Sweeps at a start, after a death, and at an end; and a container of its own.
            assert installation(two.data) != mine
            with two.client() as other:
                register(other, engine.PYTHON_IMAGE)
                assert other.submit_call("dice", {"roll": "1d6"}, wait=120)["status"] == "DONE"
                theirs = engine.containers(installation(two.data))
                assert len(theirs) == 1
                killed(two)
            assert two.end() == 0
        eventually(lambda: not engine.containers(installation(two.data)))
        assert (of_node(one, "node1"), of_node(one, "node2")) == (first, second)
        # One worker dies and begins anew: the other's serves on.
        victim = killed(one)
        gone, kept = (first, second) if victim == "node1" else (second, first)
        eventually(lambda: not of_node(one, victim))
        assert engine.containers(mine) == kept
        left = engine.docker("ps", "--all", "--quiet", "--no-trunc").split()
        assert not set(gone) & set(left)
        assert one.end() == 0
    assert engine.containers(mine) == []


def of_node(hive: Up, name: str) -> list[str]:
    """Return the containers of one worker."""
    node = (hive.data / "nodes" / name / "id").read_text()
    return engine.containers(installation(hive.data), f"skep.node={node}")


def killed(hive: Up) -> str:
    """Kill one worker and wait for its next life; return its node."""
    victim = hive.child("worker")
    with hive.client() as client:
        node = next(one["name"] for one in client.workers() if one["pid"] == victim)
        os.kill(victim, signal.SIGKILL)

        def is_back() -> bool:
            lives = {
                one["name"]: one["pid"] for one in client.workers() if one["state"] == "up"
            }
            return lives.get(node, victim) != victim

        eventually(is_back, what=f"{node} again")
    return str(node)


def test_dependencies_are_installed_again_when_the_image_is_another(tmp_path: Path) -> None:
    tag = "skep-test/changing"
    engine.docker("tag", engine.PYTHON_IMAGE, tag)
    # Idle sandboxes leave at once, so that each call meets the image of its time.
    with up(tmp_path / "d", "--sandbox", "docker", "--idle", "0") as hive:
        try:
            with hive.client() as client:
                register(client, tag, timeout=20)
                built = bundles(tmp_path / "d", client)
                assert bundles(tmp_path / "d", client) == built
                change = f"FROM {engine.PYTHON_IMAGE}\nENV CHANGED=1\n"
                command = ("build", "--quiet", "--network", "none", "--tag", tag, "-")
                engine.docker(*command, input=change)
                assert not bundles(tmp_path / "d", client) & built
        finally:
            assert hive.end() == 0
            engine.docker("image", "rm", tag)


def bundles(data: Path, client: Client) -> set[str]:
    """Roll once; return the names of the bundles that are whole."""
    call = client.submit_call("dice", {"roll": "1d6"}, wait=120)
    assert call["status"] == "DONE", call["reason"]
    eventually(lambda: client.workers()[0]["warm"] == {})
    return {path.name for path in (data / "nodes/node1/whole").iterdir()}


def test_a_burst_of_cold_calls_does_not_stampede_the_engine(tmp_path: Path) -> None:
    options = ("--sandbox", "docker", "--slots", "32")
    with up(tmp_path / "d", *options) as hive, hive.client() as client:
        register(client, engine.PYTHON_IMAGE)
        calls = [client.submit_call("dice", {"roll": "1d6"}, wait=0) for _ in range(32)]
        for call in calls:
            ended = client.call(call["callNum"], wait=120)
            assert ended["status"] == "DONE", ended["reason"]
        # What was free first took them: most containers were never asked for.
        assert len(engine.containers(installation(hive.data))) < 32
        assert hive.end() == 0


def test_no_engine_is_no_docker_and_is_said(tmp_path: Path) -> None:
    away = {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    ran = skep("demo", "--sandbox", "auto", env=environment() | away)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "does not answer" in ran.stdout
    assert "a confined process instead" in ran.stdout
    assert "process: " in ran.stdout
    refused = skep(
        "up", "--data", str(tmp_path / "d"), "--sandbox", "docker", env=environment() | away
    )
    assert refused.returncode != 0
    assert "does not answer" in refused.stderr


def test_the_demo_runs_in_containers_where_its_image_is(tmp_path: Path) -> None:
    ran = skep("demo", "--sandbox", "auto")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    has_image = bool(engine.docker("images", "--quiet", RUNTIME["image"]))
    assert ("docker: a container" in ran.stdout) is has_image
    # Not a silent switch: what is missing, and how to have it.
    assert has_image or f"has no image '{RUNTIME['image']}'" in ran.stdout
    assert has_image or "docker build" in ran.stdout
