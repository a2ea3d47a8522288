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
