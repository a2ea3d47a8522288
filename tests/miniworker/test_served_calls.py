"""The contract ``http`` on the engine of this host: an image that serves, and is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniworker import agent
from miniworker.reaching import Reach, listens
from miniworker.sandbox import NoSandbox, Plan
from miniworker.served import ServedCalls
from tests import engine
from tests.conftest import eventually
from tests.miniworker.engine_proxy import EngineProxy
from tests.miniworker.rig import ROOT, Mini, Rig, image_spec, probe, spec
from wire import jobs
from wire.messages import Outcome
from wire.models import Fault, Reason, Status

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter a container's network"),
]
UNIT = ROOT / "deploy" / "systemd" / "worker-servers.conf"
CANCELLED = Reason(code="cancelled", message="it was cancelled")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(tmp_path_factory.mktemp("docker"), "container")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An image of ``server.py``."""
    source = Path(__file__).with_name("server.py").read_text()
    with engine.image_of(
        "served", f"CMD {json.dumps(['python3', '-c', source])}", base=engine.python_image()
    ) as name:
        yield name


def serve(rig: Rig, image: str, **function: Any) -> Mini:
    """Return a miniworker whose server listens."""
    return rig.image(image, contract="http", **function)


def ask(mini: Mini, timeout_ms: int = 15_000, **what: Any) -> Any:
    return mini.call(json.dumps(what).encode(), timeout_ms)


def code_of(outcome: Outcome) -> str:
    return outcome.reason.code if outcome.reason else ""


def containers(rig: Rig, mini: Mini) -> list[str]:
    return engine.containers(rig.settings["installation"], f"skep.miniworker={mini.name}")


def test_a_call_is_a_request_and_the_answer_its_result(rig: Rig, server: str) -> None:
    mini = serve(rig, server, port=8090, env={"OWN": "set", "PORT": "1"})
    job = jobs.Job(
        call=7, attempt=1, timeout_ms=9000, traceparent="00-a-b-01", tracestate="a=b"
    )
    mini.send(job, b'{"roll": "4d6"}')
    outcome, result, *_ = mini.done()
    assert (outcome.status, outcome.result_type) == (Status.DONE, "json"), outcome
    seen = json.loads(result)
    assert (seen["path"], seen["params"]) == ("/", {"roll": "4d6"})
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["content-type"] == "application/json"
    assert headers["host"] == "localhost:8090"
    assert {name: headers[name] for name in headers if name.startswith("x-skep")} == {
        "x-skep-call": "7", "x-skep-function": "f", "x-skep-revision": "3",
        "x-skep-deadline-ms": "9000",
    }  # fmt: skip
    assert (headers["traceparent"], headers["tracestate"]) == ("00-a-b-01", "a=b")
    # Alone in there: no network but its own loopback, and the same container for each call.
    around = json.loads(ask(mini, do="see")[1])
    assert around["net"] == ["lo"]
    assert around["env"] == {
        "PORT": "8090", "OWN": "set", "SKEP_FUNCTION": "f", "SKEP_REVISION": "3",
    }  # fmt: skip
    (container,) = containers(rig, mini)
    host = json.loads(engine.docker("inspect", container))[0]["HostConfig"]
    assert (host["CapDrop"], host["PortBindings"] or {}) == (["ALL"], {})
    large = "x" * 3_000_000
    assert json.loads(ask(mini, much=large)[1])["params"] == {"much": large}
    mini.stop()
    assert not containers(rig, mini)


def test_what_an_answer_means(rig: Rig, server: str) -> None:
    mini = serve(rig, server)

    def text(text: str, **more: Any) -> Any:
        outcome, result, *_ = ask(mini, do="text", text=text, **more)
        return outcome.status, outcome.result_type, code_of(outcome), result

    done, failed = Status.DONE, Status.FAILED
    assert text("hello\n") == (done, "text", "", b"hello\n")
    assert text('{"a":1}') == (done, "text", "", b'{"a":1}')
    assert text('{"a":1}', kind="application/json") == (done, "json", "", b'{"a":1}')
    assert text("{a", kind="application/json") == (done, "text", "", b"{a")
    assert text("\xff", encoding="latin-1") == (done, "text", "", b"\xff")
    assert text("", status=204) == (done, "text", "", b"")
    assert text("away", status=302) == (failed, "text", "http_status", b"")
    outcome, _, _, _ = ask(mini, do="text", text="Traceback: no", status=500)
    assert outcome.reason == Reason(
        code="http_status", message="it answered 500 Internal Server Error: Traceback: no"
    )
    outcome, result, *_ = ask(mini, do="large", size=6 << 20)
    assert (outcome.status, len(result)) == (done, 6 << 20)
    outcome, result, *_ = ask(mini, do="large", size=(6 << 20) + 1)
    assert (outcome.status, code_of(outcome), result) == (failed, "result_too_large", b"")
    for word in ("close", "garbage"):
        outcome, result, *_ = ask(mini, do=word)
        assert (outcome.status, code_of(outcome)) == (failed, "no_answer"), (word, outcome)
    assert ask(mini, do="text", text="still there")[1] == b"still there"


def test_what_is_printed_is_the_logs(rig: Rig, server: str) -> None:
    mini = serve(rig, server)
    _, result, stdout, stderr = ask(mini, do="print", out="to out", err="to err")
    # What it printed while it started is in the first.
    assert (result, stdout, stderr) == (b"printed\n", "serving\nto out\n", "to err\n")
    outcome, _, stdout, _ = ask(mini, do="print", out="x" * 200_000, err="")
    assert len(stdout) == 128 << 10
    assert outcome.omitted == 200_001 - (128 << 10)
    assert ask(mini, do="text", text="silent")[2:] == ("", "")


def test_each_call_has_what_it_printed_however_late_the_engine_brings_it(
    rig: Rig, server: str, proxy: EngineProxy
) -> None:
    with rig.reaching(proxy.address):
        mini = serve(rig, server)
    for n in range(5):
        proxy.hold()
        mini.job(n + 1, json.dumps({"do": "print", "out": f"{n}", "err": f"-{n}"}).encode())
        # Long after the answer, which does not come by the engine.
        released = threading.Timer(0.1, proxy.release)
        released.start()
        _, _, stdout, stderr = mini.done()
        released.join()
        assert (stdout.removeprefix("serving\n"), stderr) == (f"{n}\n", f"-{n}\n")


def test_where_nothing_echoes_calls_wait_for_it_no_more(
    rig: Rig, server: str, proxy: EngineProxy
) -> None:
    with rig.reaching(proxy.address):
        mini = serve(rig, server)
    assert ask(mini, do="print", out="first", err="")[2] == "serving\nfirst\n"
    proxy.hold()
    took = []
    for _ in range(5):
        began = time.monotonic()
        assert ask(mini, do="text", text="well")[1] == b"well"
        took.append(time.monotonic() - began)
    # Three times in vain; what comes then is no log of those that follow.
    assert max(took[3:]) < min(took[:3])
    proxy.release()
    logs = [ask(mini, do="print", out=f"{n}", err="") for n in range(3)]
    said = "".join(stdout for _, _, stdout, _ in logs)
    assert re.fullmatch(r"(0\n)?(1\n)?(2\n)?", said), said


def test_several_calls_run_at_once_and_one_is_broken_off_alone(rig: Rig, server: str) -> None:
    mini = serve(rig, server, concurrency=4)
    for call in (1, 2, 3):
        mini.job(call, b'{"do": "meet"}')
    met = [mini.done() for _ in range(3)]
    assert sorted(result for _, result, *_ in met) == [b"0", b"1", b"2"]
    mini.job(4, b'{"do": "sleep", "s": 300}', timeout_ms=1000)
    mini.job(5, b'{"do": "sleep", "s": 300}')
    mini.job(6, b'{"do": "sleep", "s": 3}')
    outcome, _, stdout, _ = mini.done()
    assert outcome.reason == Reason(code="timeout", message="it ran longer than 1 s")
    # What is printed belongs to all that run.
    assert stdout.count("begun") == 3
    mini.send(jobs.Cancel(call=5, attempt=1, reason=CANCELLED))
    outcome, *_ = mini.done()
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, CANCELLED)
    outcome, result, *_ = mini.done()
    assert (outcome.status, result) == (Status.DONE, b"slept")


def test_a_container_that_ends_takes_its_calls_with_it(rig: Rig, server: str) -> None:
    mini = serve(rig, server, concurrency=2)
    mini.job(1, b'{"do": "sleep", "s": 300}')
    mini.job(2, b'{"do": "exit"}')
    for _ in range(2):
        outcome, *_ = mini.done()
        assert (outcome.status, code_of(outcome)) == (Status.LOST, "sandbox_lost"), outcome
    broken, _ = mini.recv()
    assert isinstance(broken, jobs.Broken)
    assert broken.fault is Fault.NONE
    assert rig.exit_of(mini.name).status == 0


def test_out_of_memory_is_told_of_the_container_and_of_a_child(rig: Rig, server: str) -> None:
    limit = Reason(code="oom", message="it reached its memory limit of 100 MiB")
    mini = serve(rig, server, memory=100)
    outcome, *_ = ask(mini, do="fork")
    assert (outcome.status, outcome.reason) == (Status.OOM, limit)
    # The server itself has lived on.
    assert ask(mini, do="text", text="well")[1] == b"well"
    outcome, *_ = ask(mini, do="fill")
    assert (outcome.status, outcome.reason) == (Status.OOM, limit)


def test_uploaded_code_serves_in_the_image_of_its_runtime(rig: Rig) -> None:
    source = Path(__file__).with_name("server.py").read_text()
    files = {"server.py": source, ".packages/bin/start": "#!/bin/sh\nexec python3 server.py\n"}
    bundle = rig.bundle(files)
    (bundle / ".packages/bin/start").chmod(0o755)
    runtime = {"contract": "http", "run": "start", "env": {"OWN": "runtime's"}}
    mini = rig.spawn()
    ready = mini.specialise(spec(runtime=runtime, concurrency=3), bundle)
    assert isinstance(ready, jobs.Ready), ready
    for call in (1, 2, 3):
        mini.job(call, b'{"do": "meet"}')
    assert all(mini.done()[0].status is Status.DONE for _ in range(3))
    seen = json.loads(ask(mini, do="see")[1])
    assert (seen["env"]["OWN"], seen["user"], seen["net"]) == ("runtime's", 65532, ["lo"])
    assert seen["cwd"] == "/ws"
    assert not seen["writable"]


def test_an_image_that_ends_is_no_server(rig: Rig) -> None:
    with engine.image_of("ends", 'CMD ["sh", "-c", "echo no config; exit 3"]') as name:
        mini = rig.spawn()
        broken = mini.specialise(image_spec(name, contract="http"), "-")
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "not_serving")
    assert "ended with status 3 before it listened on port 8080" in broken.reason.message
    assert broken.log == "no config\n"
    assert not containers(rig, mini)


def test_nor_is_one_that_does_not_listen_in_time(found: Any, tmp_path: Path) -> None:
    with engine.image_of("mute", 'CMD ["sleep", "300"]') as name:
        mute = image_spec(name, contract="http", port=81)
        plan = Plan(spec=mute, bundle=Path("-"), folder=tmp_path)
        calls = ServedCalls(plan, found["settings"], agent.Limits(), start_s=0.5)
        try:
            with pytest.raises(NoSandbox) as caught:
                calls.open()
        finally:
            calls.close()
    assert caught.value.reason.code == "not_serving"
    assert "nothing listened on port 81 within 0.5 s" in caught.value.reason.message
    assert not engine.containers(found["settings"]["installation"])


def test_a_server_in_perl_and_nothing_is_left_of_a_killed_miniworker(rig: Rig) -> None:
    source = (Path(__file__).with_name("server.pl")).read_text()
    with engine.image_of("perl", f"CMD {json.dumps(['perl', '-e', source])}") as name:
        mini = serve(rig, name)
        outcome, result, *_ = mini.call(b'{"a": [1]}')
        assert (outcome.status, json.loads(result)) == (Status.DONE, {"params": {"a": [1]}})
        os.kill(mini.pid, signal.SIGKILL)
        eventually(lambda: not containers(rig, mini), what="the container gone")


def test_a_socket_that_is_connected_to_itself_is_no_server() -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
        assert not listens(own, port)
    with socket.socket() as server, socket.socket() as caller:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert listens(caller, port)


def test_a_process_of_another_container_is_not_reached_into() -> None:
    with pytest.raises(NoSandbox) as caught:
        Reach(os.getpid(), "f" * 64)
    assert caught.value.reason.code == "no_reach"
    assert "host" in caught.value.reason.message


def test_only_who_may_enter_a_containers_network_reaches_it() -> None:
    container = engine.docker(
        "run", "--detach", "--network", "none", engine.base_image(), "sleep", "60"
    )
    try:
        pid = int(engine.docker("inspect", "--format", "{{.State.Pid}}", container))
        reach = Reach(pid, container)
        with reach.new_socket() as listener, reach.new_socket() as caller:
            listener.bind(("127.0.0.1", 80))
            listener.listen()
            assert caller.connect_ex(("127.0.0.1", 80)) == 0
        reach.close()
        code = f"from miniworker.reaching import Reach; Reach({pid}, {container!r})"
        (said,) = re.findall(r"^AmbientCapabilities=(.*)$", UNIT.read_text(), re.MULTILINE)
        given = {f"+{one.lower().removeprefix('cap_')}" for one in said.split()}
        for lacks in ("", *given):
            bounding = ",".join(["-all", *(given - {lacks})])
            ran = subprocess.run(
                ["setpriv", f"--bounding-set={bounding}", sys.executable, "-c", code],
                capture_output=True, text=True, cwd=ROOT, check=False,
            )  # fmt: skip
            assert (ran.returncode != 0) == bool(lacks), (bounding, ran.stderr)
            assert not lacks or "may not enter a container's network" in ran.stderr
    finally:
        engine.docker("rm", "--force", container)
