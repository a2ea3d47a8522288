"""Functions that are images, from the command line to the container and back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from skep import Call
from tests import engine
from tests.cli.session import result, skep
from tests.conftest import eventually
from tests.e2e.harness import up

pytestmark = pytest.mark.timeout(400)


def code(call: Call) -> str:
    assert call["reason"] is not None
    return call["reason"]["code"]


@pytest.mark.docker
def test_an_image_is_registered_called_listed_and_gone(tmp_path: Path) -> None:
    base = engine.base_image()
    with up(tmp_path / "data", "--sandbox", "docker") as hive:
        assert result(hive, "function", "register", "run", "--image", base) == "run\n"
        assert result(hive, "invoke", "run", "echo", "a b", "c") == "a b c\n"
        assert result(hive, "invoke", "run", "\"echo 'a b'\"") == "a b\n"
        assert result(hive, "invoke", "run", "--list", "--", "printf", "%s", "x=1") == "x=1\n"
        with hive.client() as client:
            first, second = (client.submit_call("run", ["hostname"], wait=60) for _ in range(2))
            assert (first["status"], second["status"]) == ("DONE", "DONE")
            assert first["result"] != second["result"]
            assert (first["start"], second["start"]) == ("cold", "cold")
            assert "each call has a container" in second["attempts"][0]["why"]
            assert client.logs(first["callNum"])["stdout"] == first["result"] + "\n"
            failed = client.submit_call("run", ["sh", "-c", "echo no >&2; exit 3"], wait=60)
            assert (failed["status"], code(failed)) == ("FAILED", "exit_code")
            late = client.submit_call("run", ["sleep", "60"], wait=60, timeout=1.0)
            assert late["status"] == "TIMEOUT"
            running = client.submit_call("run", ["sleep", "60"], timeout=100.0)
            number = running["callNum"]
            eventually(lambda: client.call(number)["status"] == "RUNNING", what="it runs")
            client.cancel(number)
            assert client.call(number, wait=30)["status"] == "CANCELLED"
            handles = [client.submit("run", ["echo", str(n)]) for n in range(12)]
            assert [one.result(timeout=120) for one in handles] == [str(n) for n in range(12)]
            client.register_image("gone", "skep-test/nobody-made-this", memory=64)
            gone = client.submit_call("gone", wait=60)
            assert (gone["status"], code(gone)) == ("FAILED", "image_unavailable")
            assert "docker pull" in str(gone["reason"])
            assert all(not worker["warm"] for worker in client.workers())
        installation = (hive.data / "installation").read_text()
        eventually(lambda: not engine.containers(installation), what="no container")
        deaf = ["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"]
        with hive.client() as client:
            number = client.submit_call("run", deaf, timeout=100.0)["callNum"]
            eventually(lambda: client.call(number)["status"] == "RUNNING", what="it runs")
        hive.process.send_signal(signal.SIGINT)
        # Asked twice, nobody waits for it.
        eventually(lambda: "stopping (again" in hive.printed(), what="it stops")
        assert hive.end(signal.SIGINT) == 0
    eventually(lambda: not engine.containers(installation), what="no container")


def test_without_an_engine_a_call_says_that_one_is_needed(tmp_path: Path) -> None:
    with up(tmp_path / "data") as hive:
        result(hive, "function", "register", "run", "--image", "debian:bookworm-slim")
        done = skep(hive, "invoke", "run", "ls", "/")
        assert done.returncode == 3
        assert "no_worker" in done.stderr
        assert "--sandbox docker" in done.stderr
