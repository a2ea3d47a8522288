"""Nodes that share nothing but a network, which is slow, fails, and is put elsewhere."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from skep import Client
from tests.apart import net
from tests.api.room import Process
from tests.conftest import children, eventually
from tests.packing import tar_gz, zipped
from wire.liveness import SILENT_S

pytestmark = pytest.mark.timeout(120)
TOKEN: Final = "apart"
BIG: Final = 50 << 20
RUNTIME: Final = {"name": "bare", "image": "none", "path": "/ws", "run": "python3 test.py"}
#: A clock that is wrong by an hour, from the first moment of a process on.
WRONG_CLOCK: Final = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + 3600
time.time_ns = lambda: _time_ns() + 3600 * 10**9
"""


class Site:
    """A DB node and an api on one machine, a worker on each of two others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = net.Net(["node1", "node2"], slow=["node1"])
        self._processes: list[Process] = []
        self.client: Client | None = None

    def open(self) -> Client:
        db = f"ipc://{self.folder}/db"
        self._start("api", "dbnode", "--bind", db, "--store", "memory")
        api = self._start(
            "api", "api", "--db", db, "--data", str(self.folder / "api"),
            "--host", self.net.host, "--workers-bind", "tcp://0.0.0.0:3001",
            "--pub-bind", "tcp://0.0.0.0:3002", "--token", TOKEN,
        )  # fmt: skip
        (self.folder / "clock").mkdir()
        (self.folder / "clock/sitecustomize.py").write_text(WRONG_CLOCK)
        self._worker("node1")
        self._worker("node2", self.folder / "clock")
        self.client = Client(api.facts["url"], token=TOKEN)
        self.client.register_runtime(RUNTIME)
        return self.client

    def _worker(self, name: str, *paths: Path) -> None:
        self._start(
            name, "worker", "--name", name, "--api", f"tcp://{net.API}:3001", "--token", TOKEN,
            "--data", str(self.folder / name), "--sandbox", "fake", "--slots", "2",
            "--label", f"name={name}", paths=paths,
        )  # fmt: skip

    def _start(self, machine: str, *arguments: str, paths: tuple[Path, ...] = ()) -> Process:
        within = self.net.within(machine)
        process = Process(*arguments, cwd=self.folder, within=within, paths=paths)
        self._processes.append(process)
        asyncio.run(process.ready())
        return process

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        for process in reversed(self._processes):
            if process.status is None:
                process.end()
        self.net.close()


@pytest.fixture(autouse=True)
def nothing_outlives(site: Site) -> None:
    """Sandboxes come and go during a test; the end of the site proves that all went."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    net.require()
    before = children()
    made = Site(tmp_path_factory.mktemp("apart"))
    try:
        made.open()
        yield made
    finally:
        made.close()
    eventually(lambda: children() <= before)


@pytest.fixture
def client(site: Site) -> Client:
    assert site.client is not None
    return site.client


def node(client: Client, name: str) -> dict[str, Any]:
    return next(dict(one) for one in client.workers() if one["name"] == name)


def register(client: Client, function: str, **settings: Any) -> None:
    package = settings.pop("package", None) or tar_gz({"test.py": "print(1)"})
    client.register_function("bare", function, package, **settings)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_nodes_join_by_name_and_their_clocks_mean_nothing(client: Client) -> None:
    eventually(lambda: len(client.workers()) == 2)
    register(client, "turn", policy="round-robin")
    before = time.time()
    calls = [client.submit_call("turn", {"sleep_s": 0.05}, wait=None) for _ in range(4)]
    after = time.time()
    assert {call["attempts"][0]["node"] for call in calls} == {"node1", "node2"}
    for call in calls:
        assert call["status"] == "DONE"
        times = (
            call["acceptedAt"], call["dispatchedAt"], call["startedAt"], call["finishedAt"],
        )  # fmt: skip
        moments = [moment(str(text)) for text in times]
        assert moments == sorted(moments)
        # Records round to milliseconds.
        assert before - 0.002 <= moments[0]
        assert moments[-1] <= after + 0.002
    assert silence_s(node(client, "node2")) < 1800


def test_a_large_package_delays_neither_heartbeats_nor_calls(client: Client) -> None:
    here = {"requires": {"name": "node1"}}
    register(client, "small", **here)
    register(client, "large", package=zipped({"test.py": b"", "big": os.urandom(BIG)}), **here)
    client.invoke("small")
    large = client.submit_call("large")["callNum"]
    meanwhile, worst = 0, {"node1": 0.0, "node2": 0.0}
    while client.call(large)["status"] == "PENDING":
        assert client.submit_call("small", wait=None)["status"] == "DONE"
        meanwhile += 1
        for one in client.workers():
            worst[one["name"]] = max(worst[one["name"]], silence_s(one))
            assert one["state"] == "up"
    assert client.call(large, 30)["status"] == "DONE"
    assert meanwhile >= 3
    # The other node's link is idle: a machine that is busy elsewhere delays both.
    assert worst["node1"] < max(SILENT_S, worst["node2"] + 1)


def silence_s(one: Any) -> float:
    return time.time() - moment(one["lastSeen"])


def test_a_node_returns_to_an_api_that_has_moved(client: Client, site: Site) -> None:
    register(client, "stays", requires={"name": "node1"}, timeout=60)
    number = client.submit_call("stays", {"sleep_s": 15})["callNum"]
    eventually(lambda: client.call(number)["status"] == "RUNNING")
    site.net.cut("node1")
    site.net.move_api("node1")
    eventually(lambda: node(client, "node1")["state"] == "gone")
    reason = client.call(number)["reason"]
    assert reason is not None
    assert reason["code"] == "node_silent"
    site.net.mend("node1")
    eventually(lambda: node(client, "node1")["state"] == "up")
    # What ran there went on meanwhile.
    ended = client.call(number, 40)
    assert (ended["status"], len(ended["attempts"])) == ("DONE", 1)
    # Both lines lead to where the name leads now, and of the dead ones nothing is left.
    eventually(lambda: site.net.connections("node1") == ["3001", "3002"])
    eventually(lambda: site.net.connected("node1") == ["3001", "3002"])
