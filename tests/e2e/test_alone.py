"""The processes started one by one, on TCP; an idle worker killed, and the one after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from skep import Client
from tests.conftest import children, eventually
from tests.e2e.harness import environment, register_dice, roll

FREE = "tcp://127.0.0.1:*"


@contextmanager
def process(folder: Path, module: str, *options: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Run ``skep-MODULE`` within the block; give it and what it announced."""
    read, write = os.pipe()
    command = [sys.executable, "-P", "-m", module, "--data", str(folder / module), *options]
    with (folder / f"{module}.log").open("ab") as output, os.fdopen(read, "rb") as ready:
        running = subprocess.Popen(
            [*command, "--ready-fd", str(write)],
            env=environment(),
            stderr=output,
            pass_fds=[write],
        )
        os.close(write)
        try:
            yield running, json.loads(ready.readline())
        finally:
            running.terminate()
            running.wait(30)


def states(client: Client) -> list[tuple[str, int, str]]:
    return [(worker["name"], worker["pid"], worker["state"]) for worker in client.workers()]


def test_a_killed_idle_worker_is_shown_as_gone_and_its_successor_takes_over(
    tmp_path: Path,
) -> None:
    before = children()
    with ExitStack() as stack:
        _, db = stack.enter_context(process(tmp_path, "dbnode", "--bind", FREE))
        at = ("--port", "0", "--workers-bind", FREE, "--pub-bind", FREE, "--db", db["endpoint"])
        _, api = stack.enter_context(process(tmp_path, "api", *at))
        client = stack.enter_context(Client(api["url"]))
        join = ("--name", "n1", "--api", api["workers"], "--pub", api["pub"])
        worker, _ = stack.enter_context(process(tmp_path, "worker", *join))
        register_dice(client)
        assert roll(client)["start"] == "cold"
        eventually(lambda: states(client) == [("n1", worker.pid, "up")])
        worker.send_signal(signal.SIGKILL)
        eventually(lambda: states(client) == [("n1", worker.pid, "gone")], what="it is missed")
        successor, _ = stack.enter_context(process(tmp_path, "worker", *join))
        eventually(lambda: states(client) == [("n1", successor.pid, "up")])
        again = roll(client)
        assert (again["status"], again["node"], again["start"]) == ("DONE", "n1", "cold")
    assert not children() - before


def test_each_tells_its_numbers_and_its_log_says_where(tmp_path: Path) -> None:
    json_log = ("--log-format", "json")
    asked = (*json_log, "--metrics-port", "0")
    with ExitStack() as stack:
        _, db = stack.enter_context(process(tmp_path, "dbnode", "--bind", FREE, *asked))
        at = ("--port", "0", "--workers-bind", FREE, "--pub-bind", FREE, "--db", db["endpoint"])
        _, api = stack.enter_context(process(tmp_path, "api", *at, *json_log))
        join = ("--name", "n1", "--api", api["workers"], "--pub", api["pub"])
        _, worker = stack.enter_context(process(tmp_path, "worker", *join, *asked))
        places = {"dbnode": db["metrics"], "worker": worker["metrics"]}
        for name, place in {**places, "api": f"{api['url']}/metrics"}.items():
            page = httpx.get(place, trust_env=False).raise_for_status().text
            assert f'process="{name}"' in page
        for name, place in places.items():
            assert f"metrics at {place}" in [line["message"] for line in logged(tmp_path, name)]


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        ("api", ["--host", "0.0.0.0"], "opens the api to the network"),
        ("dbnode", ["--store", "paper:"], "paper"),
        ("worker", ["--name", "n1", "--api", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_start_says_so_in_the_shape_of_its_log(
    tmp_path: Path, module: str, options: list[str], says: str
) -> None:
    for form in ("text", "json"):
        command = [sys.executable, "-P", "-m", module, "--log-format", form, *options]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        if form == "json":
            (line,) = [json.loads(line) for line in done.stderr.splitlines()]
            assert (line["level"], line["process"], line["call"]) == ("CRITICAL", module, None)
            assert says in line["message"]
        else:
            assert done.stderr.startswith(f"skep-{module}: ")
            assert says in done.stderr


def logged(folder: Path, module: str) -> list[dict[str, Any]]:
    lines = (folder / f"{module}.log").read_text().splitlines()
    return [json.loads(line) for line in lines]
