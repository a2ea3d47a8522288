"""An installation watched from outside: all of it scraped, a call followed through logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import children, eventually
from tests.e2e.harness import READY_S, RUNTIME, Up, environment, up
from tests.packing import tar_gz
from tests.test_observability import ALL
from wire.process import release

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
#: What no line of any log may hold.
SECRETS = ("t0p-s3cret-token", "hidden-env-value")
TOKEN, HIDDEN = SECRETS
SHOWS = """
import json, os
print(json.dumps([os.environ.get(name) for name in ("TRACEPARENT", "TRACESTATE")]))
"""
FORGES = """
raise ValueError("no dice" + chr(10) + "2026-01-01T00:00:00.000Z ERROR api.main: all is lost")
"""
Samples = dict[tuple[str, ...], float]


class Site:
    """What one does with a running installation, by HTTP alone."""

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=40)

    def register(self, name: str, script: str, **fields: str) -> None:
        package = tar_gz({"test.py": script, "requirements.txt": ""})
        self.http.post("/registerRuntime", json=RUNTIME).raise_for_status()
        self.http.post(
            f"/registerFunction/pythonruntime/{name}",
            files={"module": ("f.tar.gz", package)},
            data=fields,
        ).raise_for_status()

    def invoke(self, name: str, **headers: str) -> dict[str, Any]:
        body = {"funcName": name, "params": {"secret": HIDDEN}}
        answer = self.http.post("/invokeFunction?wait=30", json=body, headers=headers)
        answer.raise_for_status()
        call: dict[str, Any] = answer.json()
        return call


@contextmanager
def visited(hive: Up, token: str = "") -> Iterator[Site]:
    site = Site(hive.url, token)
    try:
        yield site
    finally:
        site.http.close()


def targets(data: Path) -> dict[tuple[str, str], str]:
    """Return the address of each process, as Prometheus finds it."""
    said = json.loads((data / "run" / "metrics.json").read_text())
    return {
        (one["labels"]["process"], one["labels"]["node"]): one["targets"][0] for one in said
    }


def scrape(target: str, token: str = "") -> Samples:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"http://{target}/metrics", headers=headers, timeout=20)
    answer.raise_for_status()
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def lines(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what each process wrote, every line of it an object."""
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (data / "logs").glob("*.log")
    }


def test_a_failed_call_is_found_in_every_log_by_its_number(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        up(data, "--log-format", "json", "--token", TOKEN) as hive,
        visited(hive, TOKEN) as site,
    ):
        site.register("shows", SHOWS, env=json.dumps({"HIDDEN": HIDDEN}))
        site.register("forges", FORGES)
        good = site.invoke("shows", traceparent=PARENT, tracestate="rojo=1")
        assert (good["status"], good["traceparent"]) == ("DONE", PARENT)
        assert json.loads(good["result"]) == [PARENT, "rojo=1"]
        bare = site.invoke("shows", traceparent="00-no-trace-01")
        assert json.loads(bare["result"]) == [None, None]
        assert bare["traceparent"] is None
        bad = site.invoke("forges", traceparent=PARENT)
        assert bad["status"] == "FAILED"

        num = bad["callNum"]
        found = {
            name: [line for line in said if line["call"] == num]
            for name, said in lines(data).items()
        }
        for name, process in (("api", "api"), ("node1", "worker")):
            (line,) = found[name]
            assert (line["process"], line["node"]) == (process, name)
            assert (line["attempt"], line["function"]) == (1, "forges")
            assert (line["trace_id"], line["level"]) == (TRACE, "INFO")
            assert line["message"].startswith("ended FAILED")
            assert "no dice" in line["message"]
        everything = [line for said in lines(data).values() for line in said]
        # A call that went well is no news.
        assert not [line for line in everything if line["call"] == good["callNum"]]
        assert not [line for line in everything if line["level"] == "ERROR"]
        written = "".join(path.read_text() for path in (data / "logs").iterdir())
        assert not [secret for secret in SECRETS if secret in written + hive.printed()]
        assert hive.end() == 0


def test_every_process_is_found_scraped_and_says_what_it_did(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data, "--token", TOKEN) as hive, visited(hive, TOKEN) as site:
        site.register("shows", SHOWS)
        site.register("forges", FORGES)
        for name in ("shows", "shows", "forges"):
            site.invoke(name)
        found = targets(data)
        processes = {("up", "up"), ("dbnode", "dbnode"), ("api", "api"), ("worker", "node1")}
        assert found.keys() == processes
        seen = {key[0]: scrape(target, TOKEN) for key, target in found.items()}
        known = {metric.name for metric in ALL}
        told = {key[0] for samples in seen.values() for key in samples}
        ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told}
        assert {name for name in ours if name.startswith("skep_")} <= known
        for samples in seen.values():
            assert samples["process_resident_memory_bytes",] > 0
        api, worker, dbnode = seen["api"], seen["worker"], seen["dbnode"]
        assert api["skep_calls_total", "shows", "DONE"] == 2
        assert api["skep_calls_total", "forges", "FAILED"] == 1
        assert api["skep_starts_total", "cold"] + api["skep_starts_total", "idle"] == 3
        assert worker["skep_worker_attempts_total", "DONE"] == 2
        assert worker["skep_worker_attempts_total", "FAILED"] == 1
        assert worker["skep_worker_spawns_total",] == 3, "two sandboxes, one install for both"
        assert worker["skep_worker_builds_total", "done"] == 1
        assert worker["skep_worker_bundle_requests_total", "miss"] == 2
        assert worker["skep_worker_cache_bytes", "packages"] > 0
        assert worker["skep_worker_fetched_bytes_total", "package"] > 0
        assert worker["skep_worker_session_open",] == 1
        assert dbnode["skep_dbnode_requests_total", "registerFunction", "ok"] == 2
        assert dbnode["skep_dbnode_api_epoch", "api"] == 1
        assert dbnode["skep_dbnode_sync_seconds_count",] > 0
        assert dbnode["skep_dbnode_store_bytes", "catalogue"] > 0
        eventually(lambda: scrape(found["dbnode", "dbnode"])["skep_dbnode_calls",] == 3)
        assert seen["up"]["skep_up_child_starts_total", "node1"] == 1
        assert hive.end() == 0
    assert not (data / "run").exists()


def test_what_dies_or_sends_rubbish_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as hive, visited(hive) as site:
        site.register("shows", SHOWS)
        assert site.invoke("shows")["status"] == "DONE"
        before = targets(data)["worker", "node1"]
        send_rubbish(data)
        dropped = ("skep_dropped_messages_total", "garbage", "miniworkers")
        eventually(lambda: scrape(before)[dropped] == 2)
        assert scrape(before)["skep_dropped_messages_total", "frames", "miniworkers"] == 1
        os.kill(child_of(hive.child("worker"), "miniworker"), signal.SIGKILL)
        eventually(lambda: scrape(before)["skep_worker_zygote_starts_total",] == 2)
        assert site.invoke("shows")["status"] == "DONE"
        assert scrape(before)["skep_worker_miniworker_exits_total", "zygote"] == 1
        os.kill(hive.child("worker"), signal.SIGKILL)
        # It comes back on another port, and the list says so.
        after = eventually(lambda: (now := targets(data)["worker", "node1"]) != before and now)
        assert scrape(after)["skep_worker_zygote_starts_total",] == 1
        own = scrape(targets(data)["up", "up"])
        assert own["skep_up_child_starts_total", "node1"] == 2
        assert own["skep_up_child_exits_total", "node1", "signal"] == 1
        assert own["skep_up_child_ready", "node1"] == 1
        assert hive.end() == 0


def send_rubbish(data: Path) -> None:
    """Speak to the worker's ROUTER for miniworkers as nobody may."""
    (path,) = (data / "run" / "node1").glob("*/w/s")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    # However deep it lies, the path of a socket has to be short.
    folder = os.open(path.parent, os.O_PATH)
    try:
        dealer.connect(f"ipc:///proc/self/fd/{folder}/{path.name}")
        dealer.send_multipart([b"nonsense", b"", b""])
        dealer.send_multipart([b"\xa5\x01\xff", b"", b""])
        dealer.send_multipart([b"two", b"frames"])
        dealer.close(linger=5000)
    finally:
        context.destroy(linger=5000)
        os.close(folder)


def child_of(pid: int, module: str) -> int:
    """Return the child of a process that runs a module."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if f"-m\0{module}\0" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise AssertionError(f"no {module} below {pid}")


@pytest.mark.parametrize(
    "command",
    [
        ["dbnode", "--bind", "tcp://127.0.0.1:*", "--store", "memory:"],
        ["worker", "--name", "n1", "--api", "tcp://127.0.0.1:1", "--sandbox", "fake"],
    ],
    ids=lambda command: command[0],
)
class TestAlone:
    """Processes that were started by hand."""

    def start(self, command: list[str], folder: Path, *options: str) -> Any:
        read, write = os.pipe()
        with os.fdopen(read, "rb") as ready:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command, *options, "--ready-fd", str(write)],
                env=environment(),
                cwd=folder,
                stderr=subprocess.PIPE,
                pass_fds=[write],
                text=True,
            )
            os.close(write)
            line = ready.readline()
        return process, json.loads(line or "{}")

    def test_a_port_is_announced_and_serves_what_it_should(
        self, command: list[str], tmp_path: Path
    ) -> None:
        process, facts = self.start(command, tmp_path, "--metrics-port", "0")
        try:
            url = facts["metrics"].removesuffix("/metrics")
            assert scrape(url.removeprefix("http://"))["skep_build_info", *labels(command)] == 1
            assert httpx.get(f"{url}/healthz").json()["pid"] == process.pid
            assert httpx.get(f"{url}/other").status_code == 404
            rebound = httpx.get(f"{url}/metrics", headers={"Host": "evil.example"})
            assert rebound.status_code == 403
        finally:
            process.terminate()
            process.communicate(timeout=READY_S)
        assert process.returncode == 0

    def test_without_a_port_there_is_none(self, command: list[str], tmp_path: Path) -> None:
        process, facts = self.start(command, tmp_path)
        assert facts["metrics"] == ""
        process.terminate()
        process.communicate(timeout=READY_S)

    def test_a_taken_port_ends_it_with_a_sentence(
        self, command: list[str], tmp_path: Path
    ) -> None:
        before = children()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            process, facts = self.start(command, tmp_path, "--metrics-port", port)
            _, said = process.communicate(timeout=READY_S)
        assert facts == {}
        assert process.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in said
        assert "--metrics-port" in said
        assert "Traceback" not in said
        assert not children() - before


def labels(command: list[str]) -> tuple[str, str, str]:
    """Return the labels of skep_build_info, in the order of their names."""
    node = "n1" if command[0] == "worker" else "dbnode"
    return node, command[0], release()
