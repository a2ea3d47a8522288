"""The Docker driver on the engine of this host: what it asks for, and what can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniworker.loop import LEFT_BEHIND
from miniworker.processes import descendants
from tests import engine
from tests.conftest import eventually
from tests.miniworker.engine_proxy import EngineProxy
from tests.miniworker.rig import ENV, Mini, Rig, probe, spec
from wire import jobs
from wire.models import Fault, Status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
FOREVER = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(tmp_path_factory.mktemp("docker"), "container")


@pytest.fixture(scope="module", autouse=True)
def images() -> Iterator[None]:
    """Remove what ``image`` made."""
    yield
    if MADE:
        engine.docker("image", "rm", *MADE)


MADE: set[str] = set()


def image(name: str, *lines: str) -> str:
    """Make an image of the python one, until the end of the module; return its name."""
    text = "\n".join([f"FROM {engine.python_image()}", *lines])
    tag = f"skep-test/{name}"
    build = ["docker", "build", "--quiet", "--network", "none", "--tag", tag, "-"]
    done = subprocess.run(build, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    MADE.add(tag)
    return tag


def inspect(rig: Rig, mini: Mini) -> Any:
    label = f"skep.miniworker={mini.name}"
    (container,) = engine.containers(rig.settings["installation"], label)
    return json.loads(engine.docker("inspect", container))[0]


def broken(rig: Rig, **runtime: Any) -> jobs.Broken:
    mini = rig.spawn()
    answer = mini.specialise(spec(runtime=runtime), rig.bundle({"test.py": ""}))
    assert isinstance(answer, jobs.Broken), answer
    assert rig.exit_of(mini.name).status == 0
    return answer


def test_the_engine_is_asked_for_the_least_and_told_whose_it_is(rig: Rig) -> None:
    mini = rig.script("", memory=100, cpu=0.5)
    seen = inspect(rig, mini)
    host, config = seen["HostConfig"], seen["Config"]
    assert config["Labels"]["skep"] == rig.settings["installation"]
    assert config["Labels"]["skep.node"] == rig.settings["node"]
    assert config["Labels"]["skep.boot"] == rig.settings["boot"]
    assert config["Labels"]["skep.parent"] == str(rig.zygote.pid)
    assert (config["NetworkDisabled"], host["AutoRemove"]) == (True, False)
    assert (host["ReadonlyRootfs"], host["Privileged"]) == (True, False)
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert (host["Memory"], host["MemorySwap"]) == (100 << 20, 100 << 20)
    assert (host["PidsLimit"], host["NanoCpus"]) == (256, 500_000_000)
    mounts = {mount["Destination"]: mount["RW"] for mount in seen["Mounts"]}
    assert set(mounts.values()) == {False}


def test_the_folders_of_a_call_are_its_users_and_limited(rig: Rig) -> None:
    mini = rig.script("""
import errno, json, os
def fill(path):
    try:
        with open(path, "wb") as file:
            for _ in range(100):
                file.write(bytes(1 << 20))
    except OSError as error:
        return errno.errorcode[error.errno], os.stat(path).st_size >> 20
    finally:
        os.unlink(path)
own = [os.stat(path).st_uid for path in ("/ws", "/tmp")]
full = [fill("/ws/x"), fill("/tmp/x")]
print(json.dumps([os.getuid(), own, full, os.listdir("/sys/class/net")]))
""", memory=128)  # fmt: skip
    outcome, result, _, stderr = mini.call()
    assert outcome.status is Status.DONE, (outcome, stderr)
    assert json.loads(result) == [65532, [65532, 0], [["ENOSPC", 64], ["ENOSPC", 64]], ["lo"]]


def test_a_function_that_asks_for_the_network_has_one(rig: Rig) -> None:
    mini = rig.script("import os; print(len(os.listdir('/sys/class/net')))", network=True)
    assert mini.call()[1] == b"2\n"


def test_no_function_sees_anothers_bundle(found: dict[str, Any], tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    bundles.chmod(0o711)
    source = """
import os
try:
    print(os.listdir("/skep/bundles"))
except PermissionError:
    print("hidden", open("mine.txt").read(), os.path.realpath("mine.txt"))
"""
    for name in ("a1b2", "c3d4"):
        (bundles / name).mkdir()
        (bundles / name / "test.py").write_text(source)
        (bundles / name / "mine.txt").write_text(name)
    with Rig(found["settings"] | {"bundles": str(bundles)}, driver="docker") as rig:
        mini = rig.spawn()
        assert isinstance(mini.specialise(spec(), bundles / "a1b2"), jobs.Ready)
        assert mini.call()[1] == b"hidden a1b2 /skep/bundles/a1b2/mine.txt\n"
        rig.clear()
        rig.check()


# --- whom it runs as ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines", "who"),
    [
        ("root", ("USER root",), "65532 65532 65532"),
        ("unsaid", ("USER 0:0",), "65532 65532 65532"),
        ("named", ("USER daemon",), "1 1 1"),
        ("grouped", ("USER daemon:staff",), "1 50 1"),
        ("number", ("USER 4321",), "4321 0 4321"),
    ],
)
def test_a_sandbox_runs_as_the_images_user_but_never_as_root(
    rig: Rig, name: str, lines: tuple[str, ...], who: str
) -> None:
    order = spec(runtime={"image": image(name, *lines)})
    bundle = rig.bundle(
        {"test.py": "import os; print(os.getuid(), os.getgid(), os.stat('/ws').st_uid)"}
    )
    for _ in range(2):
        mini = rig.spawn()
        ready = mini.specialise(order, bundle)
        assert isinstance(ready, jobs.Ready), ready
        assert mini.call()[1].decode().strip() == who
        mini.stop()


def test_what_the_image_sets_is_set_for_the_function(rig: Rig) -> None:
    order = spec(runtime={"image": image("env", "ENV COLOUR=blue", "VOLUME /data")})
    source = """
import os
open("/data/x", "w").close()
print(os.environ["COLOUR"], os.environ["PATH"].split(":")[0])
"""
    mini = rig.spawn()
    assert isinstance(mini.specialise(order, rig.bundle({"test.py": source})), jobs.Ready)
    outcome, result, _, stderr = mini.call()
    assert result == b"blue /ws/.packages/bin\n", (outcome, stderr)


# --- memory -------------------------------------------------------------------------------


def test_a_child_that_the_kernel_kills_for_memory_is_oom(rig: Rig) -> None:
    mini = rig.script(
        "import subprocess, sys\n"
        "ended = subprocess.run([sys.executable, '-c', 'x = b\"x\" * (300 << 20)'])\n"
        "sys.exit(ended.returncode != 0)", memory=64,
    )  # fmt: skip
    outcome = mini.call()[0]
    assert (outcome.status, outcome.reason and outcome.reason.code) == (Status.OOM, "oom")


def test_a_kill_that_a_call_survived_is_not_the_next_ones(rig: Rig) -> None:
    mini = rig.script(
        "import json, subprocess, sys\n"
        "if json.load(sys.stdin).get('fail'):\n"
        "    sys.exit(3)\n"
        "subprocess.run([sys.executable, '-c', 'x = b\"x\" * (300 << 20)'])\n", memory=64,
    )  # fmt: skip
    assert mini.call()[0].status is Status.DONE
    outcome = mini.call(b'{"fail": true}')[0]
    assert (outcome.status, outcome.reason and outcome.reason.code) == (
        Status.FAILED,
        "exit_code",
    )


# --- what can go wrong with an image ---------------------------------------------------------


def test_a_missing_image_is_the_functions_fault_and_says_what_to_do(rig: Rig) -> None:
    answer = broken(rig, image="skep-test/no-such-image:1")
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
    assert "docker pull skep-test/no-such-image:1" in answer.reason.message


def test_a_name_that_is_none_says_so(rig: Rig) -> None:
    answer = broken(rig, image="UPPER/Case")
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")


def test_an_image_without_the_interpreter_says_so(rig: Rig) -> None:
    answer = broken(rig, image="debian:bookworm-slim")
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "command_not_found")
    assert "python3" in answer.reason.message


def test_an_agent_that_is_a_program_of_its_own_runs_on_what_the_image_has(rig: Rig) -> None:
    mini = rig.spawn()
    order = spec(runtime={"agent": "perl", "run": "perl test.pl"})
    ready = mini.specialise(order, rig.bundle({"test.pl": "print 'it is ', 6 * 7"}))
    assert isinstance(ready, jobs.Ready), ready
    assert mini.call()[1] == b"it is 42"
    mini.stop()


def test_an_agents_interpreter_that_the_image_lacks_is_named(rig: Rig) -> None:
    without = image("no-perl", "USER root", "RUN rm /usr/bin/perl*")
    answer = broken(rig, image=without, agent="perl")
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "command_not_found")
    assert "/skep/agents/perl" in answer.reason.message


def test_an_agent_that_this_node_does_not_have_is_looked_for_on_others(rig: Rig) -> None:
    answer = broken(rig, agent="cobol")
    assert (answer.fault, answer.reason.code) == (Fault.NODE, "no_agent")
    assert answer.reason.message.startswith("this node has no agent 'cobol'; put cobol/agent")


def test_an_image_whose_agent_ends_at_once_shows_what_it_printed(rig: Rig) -> None:
    script = "'#!/bin/sh\\necho no such luck >&2; exit 3\\n'"
    file = "/usr/local/bin/python3"
    lines = ("USER 0", f"RUN printf {script} >{file} && chmod 755 {file}")
    answer = broken(rig, image=image("exits", *lines))
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
    assert "status 3" in answer.reason.message
    assert "no such luck" in answer.reason.message


# --- what can go wrong with the engine --------------------------------------------------------


def through(rig: Rig, proxy: EngineProxy) -> Mini:
    """Return a miniworker that reaches the engine through the proxy."""
    with rig.reaching(proxy.address):
        return rig.spawn()


def test_an_engine_that_is_away_is_the_nodes_fault(rig: Rig, proxy: EngineProxy) -> None:
    proxy.refuse()
    mini = through(rig, proxy)
    answer = mini.specialise(spec(), rig.bundle({}))
    assert (answer.fault, answer.reason.code) == (Fault.NODE, "no_sandbox")
    assert str(proxy.path) in answer.reason.message
    assert "does not answer" in answer.reason.message


def test_an_engine_that_is_restarted_meanwhile_is_waited_for(
    rig: Rig, proxy: EngineProxy
) -> None:
    proxy.refuse()
    mini = through(rig, proxy)
    bundle = rig.bundle({"test.py": "print(1)"})
    mini.send(jobs.Specialise(spec=spec(), bundle=str(bundle)))
    eventually(lambda: proxy.refused >= 2)
    proxy.admit()
    assert isinstance(mini.recv()[0], jobs.Ready)
    assert mini.call()[1] == b"1\n"


def test_an_engine_that_dies_in_a_start_leaves_nothing(rig: Rig, proxy: EngineProxy) -> None:
    proxy.cut_at(b"/start")
    mini = through(rig, proxy)
    answer = mini.specialise(spec(), rig.bundle({}))
    assert (answer.fault, answer.reason.code) == (Fault.NODE, "no_sandbox")
    # It could not remove what it had made; the zygote does.
    assert rig.exit_of(mini.name).status == LEFT_BEHIND
    eventually(lambda: not engine.containers(rig.settings["installation"]))


def test_a_container_whose_making_was_never_heard_of_is_swept(
    rig: Rig, proxy: EngineProxy
) -> None:
    proxy.cut_at(b"/containers/create", unheard=True)
    mini = through(rig, proxy)
    answer = mini.specialise(spec(), rig.bundle({}))
    assert (answer.fault, answer.reason.code) == (Fault.NODE, "no_sandbox")
    assert rig.exit_of(mini.name).status == LEFT_BEHIND
    eventually(lambda: not engine.containers(rig.settings["installation"]))


def test_an_engine_that_is_slow_is_waited_for(rig: Rig, proxy: EngineProxy) -> None:
    proxy.hold()
    mini = through(rig, proxy)
    bundle = rig.bundle({"test.py": "print(1)"})
    mini.send(jobs.Specialise(spec=spec(), bundle=str(bundle)))
    eventually(lambda: proxy.connected)
    proxy.release()
    assert isinstance(mini.recv()[0], jobs.Ready)


def test_a_warm_sandbox_outlives_its_engines_absence(rig: Rig, proxy: EngineProxy) -> None:
    mini = through(rig, proxy)
    ready = mini.specialise(spec(), rig.bundle({"test.py": "print(2)"}))
    assert isinstance(ready, jobs.Ready), ready
    proxy.refuse()
    assert mini.call()[1] == b"2\n"
    outcome = mini.call(b'{"x": 1}')[0]
    assert outcome.status is Status.DONE
    proxy.admit()


def test_removing_what_a_dead_one_left_leaves_the_living_theirs(rig: Rig) -> None:
    living, dead = rig.script("print(1)"), rig.script("print(2)")
    zygote, label = rig.zygote.pid, f"skep.miniworker={dead.name}"
    os.kill(dead.pid, signal.SIGKILL)
    assert rig.exit_of(dead.name).status == -signal.SIGKILL
    eventually(lambda: not engine.containers(rig.settings["installation"], label))
    # Whoever removes has ended: there was nothing else for it.
    eventually(lambda: descendants(zygote) == {living.pid})
    assert living.call()[1] == b"1\n"


def test_an_engine_with_another_file_system_is_spoken_to_by_stdio(tmp_path: Path) -> None:
    """As one across the network, or in a virtual machine: here, as one outside a namespace."""
    engine.require()
    if os.geteuid() != 0:
        pytest.skip("only root can hide a folder from the engine")
    hide = f'mount -t tmpfs none {tmp_path} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-P", "-m"]
    for driver, transport, code, words in (
        ("docker", "auto", 0, '"transport": "stdio"'),
        ("docker", "mounts", 1, "keep --data in a folder"),
        ("auto", "mounts", 0, '"driver": "process"'),
    ):
        probing = ["miniworker", "probe", "--json", "--driver", driver]
        probing += ["--transport", transport, "--folder"]
        asked = subprocess.run(
            [*command, *probing, str(tmp_path / "node")],
            env=ENV,
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == code, asked.stderr
        assert "does not see this worker's files" in asked.stdout + asked.stderr
        assert words in asked.stdout + asked.stderr


# --- what is left, and whose it is ------------------------------------------------------------


def test_what_belongs_to_another_node_or_installation_is_never_touched(
    found: dict[str, Any],
) -> None:
    own, strangers = found["settings"], []
    for labels in (
        {"skep": own["installation"], "skep.node": "another"},
        {"skep": "another", "skep.node": own["node"]},
    ):
        options = [f"--label={name}={value}" for name, value in labels.items()]
        strangers.append(engine.docker("create", *options, engine.python_image()))
    ours = engine.docker(
        "create",
        f"--label=skep={own['installation']}",
        f"--label=skep.node={own['node']}",
        engine.python_image(),
    )
    try:
        with Rig(own, driver="docker"):
            eventually(lambda: ours not in engine.containers(own["installation"]))
        left = engine.docker("ps", "--all", "--quiet", "--no-trunc").split()
        assert set(strangers) <= set(left)
    finally:
        engine.docker("rm", *strangers)


def test_a_worker_that_is_killed_leaves_nothing_that_runs(found: dict[str, Any]) -> None:
    with Rig(found["settings"], driver="docker") as rig:
        mini = rig.script("import os\nif os.fork() == 0:\n    os.setsid()\n" + FOREVER)
        mini.job(1)
        eventually(lambda: len(rig.inside(mini)) >= 3)
        # As when the worker is killed: its end of the zygote's socket is closed.
    assert engine.containers(found["settings"]["installation"]) == []


def test_containers_that_end_by_themselves_are_removed_all_the_same(rig: Rig) -> None:
    # The agent ends when its miniworker hangs up, just before the engine is told to kill.
    for _ in range(12):
        rig.script("").stop()
    assert engine.containers(rig.settings["installation"]) == []


def test_a_container_that_somebody_removes_is_a_lost_sandbox(rig: Rig) -> None:
    mini = rig.script("print('begun', flush=True)\n" + FOREVER)
    mini.job(1)
    eventually(lambda: len(rig.inside(mini)) > 1)
    engine.docker("rm", "--force", inspect(rig, mini)["Id"])
    outcome = mini.done()[0]
    assert (outcome.status, outcome.reason and outcome.reason.code) == (
        Status.LOST,
        "sandbox_lost",
    )


# --- builds -----------------------------------------------------------------------------------


def test_a_build_sees_the_files_that_its_settings_name_where_they_are_here(
    rig: Rig, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("a certificate")
    authority.chmod(0o644)
    env = {"PIP_CERT": str(authority), "HTTPS_PROXY": "http://proxy.invalid:1"}
    bundle = rig.bundle({})
    mini = rig.spawn()
    command = 'echo "$HTTPS_PROXY" >proxy; cat "$PIP_CERT" >cert; pwd >place; id -u >uid'
    order = spec(runtime={"dependencies": command})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60_000, env=env))
    built = mini.recv()[0]
    assert isinstance(built, jobs.Built)
    assert built.reason is None, built
    mini.stop()
    made = {path.name: path.read_text().strip() for path in bundle.iterdir()}
    assert made == {
        "proxy": "http://proxy.invalid:1", "cert": "a certificate", "place": "/ws",
        "uid": str(65532 if os.geteuid() == 0 else os.geteuid()),
    }  # fmt: skip


def test_a_bundle_that_another_image_built_is_not_used(rig: Rig) -> None:
    bundle = rig.bundle({"test.py": "print(open('made').read())"})
    mini = rig.spawn()
    order = spec(runtime={"dependencies": "echo here >made"})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60_000))
    built = mini.recv()[0]
    assert isinstance(built, jobs.Built)
    assert built.reason is None, built
    mini.stop()
    same = rig.spawn()
    assert isinstance(same.specialise(order, bundle), jobs.Ready)
    assert same.call()[1] == b"here\n\n"
    other = spec(runtime={"image": image("other", "ENV OTHER=1")})
    answer = rig.spawn().specialise(other, bundle)
    assert isinstance(answer, jobs.Broken)
    assert (answer.fault, answer.reason.code) == (Fault.NONE, "stale_bundle")


def test_a_build_that_is_killed_leaves_no_container(rig: Rig) -> None:
    mini = rig.spawn()
    order = spec(runtime={"dependencies": "sleep 600"})
    mini.send(jobs.Build(spec=order, bundle=str(rig.bundle({})), timeout_ms=60_000))
    eventually(lambda: len(rig.inside(mini)) > 1)
    os.kill(mini.pid, signal.SIGKILL)
    assert rig.exit_of(mini.name).status == -signal.SIGKILL
    eventually(lambda: not engine.containers(rig.settings["installation"]))
