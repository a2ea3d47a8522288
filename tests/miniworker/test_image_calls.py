"""Image functions on the engine of this host: each call a fresh container of the image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from miniworker.engine import Engine
from miniworker.loop import LEFT_BEHIND
from miniworker.processes import descendants
from miniworker.sweeping import Whose, sweep
from miniworker.underway import Underway
from tests import engine
from tests.conftest import eventually
from tests.miniworker.engine_proxy import EngineProxy
from tests.miniworker.rig import Mini, Rig, image_spec, probe
from wire import jobs
from wire.models import Fault, Reason, Status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return probe(tmp_path_factory.mktemp("docker"), "container")


@pytest.fixture(scope="module")
def plain() -> str:
    """An image without an ENTRYPOINT: the arguments are the command."""
    return engine.base_image()


MADE: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def images() -> Iterator[None]:
    """Remove what ``image`` made."""
    yield
    if MADE:
        engine.docker("image", "rm", *MADE)


def image(name: str, *lines: str) -> str:
    """Make an image, until the end of the module; return its name."""
    text = "\n".join([f"FROM {engine.base_image()}", *lines])
    tag = f"skep-test/image-{name}"
    build = ["docker", "build", "--quiet", "--network", "none", "--tag", tag, "-"]
    done = subprocess.run(build, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    MADE.add(tag)
    return tag


def sh(script: str, *more: str) -> bytes:
    return json.dumps(["sh", "-c", script, "sh", *more]).encode()


def containers(rig: Rig, mini: Mini) -> list[str]:
    return engine.containers(rig.settings["installation"], f"skep.miniworker={mini.name}")


def inspect(rig: Rig, mini: Mini) -> Any:
    (container,) = containers(rig, mini)
    return json.loads(engine.docker("inspect", container))[0]


def test_the_params_are_the_arguments_and_stdout_is_log_and_result(
    rig: Rig, plain: str
) -> None:
    mini = rig.image(plain)
    outcome, result, stdout, stderr = mini.call(b'["echo", "-n", "a b", 3, {"x": [1]}]')
    assert outcome.status is Status.DONE, (outcome, stderr)
    assert result == b'a b 3 {"x": [1]}'
    assert (stdout, stderr) == (result.decode(), "")
    mini.stop()
    assert not containers(rig, mini)


def test_text_is_split_as_a_shell_would(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    _, result, *_ = mini.call(json.dumps("printf '<%s>' \"a b\" c\\ d $HOME").encode())
    assert result == b"<a b><c d><$HOME>"


def test_an_entrypoint_is_given_the_arguments_and_the_params_on_stdin(rig: Rig) -> None:
    mini = rig.image(
        image(
            "entry",
            "WORKDIR /srv",
            'ENTRYPOINT ["sh", "-c", "echo $0 $#; pwd; cat; echo; echo $SKEP_PARAMS '
            '$SKEP_FUNCTION $SKEP_REVISION $SKEP_CALL $OWN >&2"]',
            'CMD ["default"]',
        ),
        env={"OWN": "set"},
    )
    outcome, result, _, stderr = mini.call(b'{"roll": "4d6"}')
    assert outcome.status is Status.DONE, (outcome, stderr)
    first, cwd, stdin = result.decode().splitlines()
    assert (cwd, json.loads(stdin)) == ("/srv", {"roll": "4d6"})
    assert first == '{"roll": "4d6"} 0'
    assert stderr.split() == ['{"roll":', '"4d6"}', "f", "3", "1", "set"]
    # None at all: the image's own.
    assert mini.call(b"{}")[1].startswith(b"default 0\n/srv\n")


def test_each_call_has_a_container_of_its_own(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    script = "ls /left 2>/dev/null; touch /left; hostname"
    first, second = (mini.call(sh(script))[1] for _ in range(2))
    assert first != second
    assert b"/left" not in second
    assert len(containers(rig, mini)) == 1


def test_large_params_come_on_stdin_and_large_output_is_the_result(
    rig: Rig, plain: str
) -> None:
    mini = rig.image(plain)
    text = "x" * 100_000
    outcome, result, stdout, _ = mini.call(sh("cat; cat >&2 </dev/null", text, *[text] * 5))
    assert outcome.status is Status.DONE, outcome
    assert json.loads(result)[-1] == text
    assert outcome.omitted == len(result) - len(stdout) > 0


def test_a_program_that_reads_nothing_of_large_params_ends_well(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    assert mini.call(sh("exec <&-; echo well", *["x" * 100_000] * 8))[1] == b"well\n"


def test_a_result_over_the_limit_runs_to_its_end_and_fails(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    outcome, result, stdout, stderr = mini.call(
        sh("head -c 7000000 /dev/zero | tr '\\0' x; echo end >&2")
    )
    assert outcome.status is Status.FAILED
    assert outcome.reason
    assert (outcome.reason.code, result, stderr) == ("result_too_large", b"", "end\n")
    assert "7000000" in outcome.reason.message
    assert (len(stdout), outcome.omitted) == (128 << 10, 7_000_000 - (128 << 10))


def test_10_mb_on_stderr_are_done_with_head_and_tail(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    outcome, result, _, stderr = mini.call(
        sh("(echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo last) >&2; echo ok")
    )
    assert (outcome.status, result) == (Status.DONE, b"ok\n")
    assert stderr.startswith("first\n")
    assert stderr.endswith("last\n")
    assert len(stderr) == 128 << 10


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("echo no >&2; exit 3", "exit_code", "the code 3"),
        ("exit 200", "exit_code", "the code 200"),
        ("sh -c 'kill -SEGV $$'", "signal", "SIGSEGV"),
    ],
)
def test_a_status_that_is_not_0_is_failed(
    rig: Rig, plain: str, script: str, code: str, words: str
) -> None:
    outcome, result, _, stderr = rig.image(plain).call(sh(script))
    assert (outcome.status, result) == (Status.FAILED, b"")
    assert outcome.reason
    assert outcome.reason.code == code
    assert words in outcome.reason.message
    assert stderr == ("no\n" if "no" in script else stderr)


def test_children_are_ended_with_the_first_process(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    outcome, result, *_ = mini.call(sh("setsid sleep 300 & echo started"))
    assert (outcome.status, result) == (Status.DONE, b"started\n")
    assert not rig.inside(mini)


def test_one_that_closes_its_output_and_goes_on_is_waited_for(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    outcome, result, *_ = mini.call(sh("echo said; exec >&- 2>&-; sleep 2; exit 4"))
    assert outcome.status is Status.FAILED, (outcome, result)
    assert outcome.reason is not None
    assert outcome.reason.code == "exit_code"
    assert outcome.duration_ms > 1900


def test_a_timeout_kills_all_and_keeps_what_was_printed(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    script = "trap '' TERM INT; setsid sleep 300 & echo begun; while :; do sleep 1; done"
    outcome, _, stdout, _ = mini.call(sh(script), timeout_ms=1500)
    assert outcome.status is Status.TIMEOUT
    assert outcome.reason == Reason(code="timeout", message="it ran longer than 1.5 s")
    assert stdout == "begun\n"
    assert outcome.duration_ms >= 1500
    assert not rig.inside(mini)
    # The miniworker is as good as before.
    assert mini.call(sh("echo next"))[1] == b"next\n"


def test_a_cancel_kills_the_container(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    mini.job(7, sh("echo begun; sleep 300"))
    eventually(lambda: rig.inside(mini), what="a container")
    reason = Reason(code="cancelled", message="it was cancelled")
    mini.send(jobs.Cancel(call=7, attempt=1, reason=reason))
    outcome, *_ = mini.done()
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, reason)
    assert not rig.inside(mini)


def test_out_of_memory_names_the_limit(rig: Rig) -> None:
    mini = rig.image(engine.python_image(), memory=64)
    outcome, *_ = mini.call(json.dumps(["python3", "-c", "x = bytearray(200 << 20)"]).encode())
    assert outcome.status is Status.OOM, outcome
    assert outcome.reason == Reason(code="oom", message="it reached its memory limit of 64 MiB")


def test_out_of_memory_of_a_child_is_seen_too(rig: Rig) -> None:
    mini = rig.image(engine.python_image(), memory=64)
    outcome, *_ = mini.call(sh("python3 -c 'x = bytearray(200 << 20)'; exit 7"))
    assert outcome.status is Status.OOM, outcome


def test_the_container_may_do_the_least_and_says_whose_it_is(rig: Rig, plain: str) -> None:
    mini = rig.image(plain, memory=100, cpu=0.5)
    mini.job(1, sh("echo begun; sleep 300"))
    eventually(lambda: rig.inside(mini), what="a container")
    seen = inspect(rig, mini)
    host, config = seen["HostConfig"], seen["Config"]
    assert (config["NetworkDisabled"], host["AutoRemove"]) == (True, False)
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"]) == (100 << 20, 100 << 20)
    assert (host["PidsLimit"], host["NanoCpus"]) == (256, 500_000_000)
    assert (seen["Mounts"], host["LogConfig"]["Type"]) == ([], "none")
    labels = config["Labels"]
    assert labels["skep"] == rig.settings["installation"]
    assert labels["skep.node"] == rig.settings["node"]
    assert time.time() < int(labels["skep.expires"]) < time.time() + 300


def test_a_function_that_asks_for_the_network_has_one(rig: Rig, plain: str) -> None:
    ask = sh("ls /sys/class/net")
    assert rig.image(plain).call(ask)[1].split() == [b"lo"]
    assert b"eth0" in rig.image(plain, network=True).call(ask)[1].split()


def test_the_user_is_the_images(rig: Rig, plain: str) -> None:
    assert rig.image(image("user", "USER 1234:5678")).call(sh("id -u; id -g"))[1] == (
        b"1234\n5678\n"
    )
    assert rig.image(plain).call(sh("id -u; grep CapEff /proc/self/status"))[1].split() == [
        b"0", b"CapEff:", b"0000000000000000",
    ]  # fmt: skip


def test_an_image_that_is_not_there_is_unavailable(rig: Rig) -> None:
    mini = rig.spawn()
    answer = mini.specialise(image_spec("skep-test/none:1"), "-")
    assert isinstance(answer, jobs.Broken)
    assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
    assert "docker pull skep-test/none:1" in answer.reason.message
    assert rig.exit_of(mini.name).status == 0


def test_an_image_that_goes_while_its_miniworker_waits(rig: Rig) -> None:
    tag = image("goes", "ENV X=1")
    mini = rig.image(tag)
    engine.docker("image", "rm", tag)
    MADE.discard(tag)
    outcome, *_ = mini.call(sh("true"))
    assert outcome.status is Status.FAILED
    assert outcome.reason
    assert outcome.reason.code == "image_unavailable"


@pytest.mark.parametrize(
    ("params", "words"),
    [(b'["no-such-program"]', "no-such-program"), (b'["/etc"]', "/etc")],
)
def test_a_program_that_is_not_in_the_image(
    rig: Rig, plain: str, params: bytes, words: str
) -> None:
    outcome, *_ = rig.image(plain).call(params)
    assert outcome.status is Status.FAILED
    assert outcome.reason
    assert outcome.reason.code == "command_not_found", outcome.reason
    assert words in outcome.reason.message


def test_a_program_that_the_kernel_does_not_run(rig: Rig) -> None:
    other = "printf '\\177ELF\\002' >/other"
    alone = "printf '#!/none\\n' >/alone"
    tag = image("odd", f"RUN {other}; {alone}; chmod 755 /other /alone")
    mini = rig.image(tag)
    for program in ("/other", "/alone"):
        outcome, *_ = mini.call(json.dumps([program]).encode())
        assert outcome.reason
        assert outcome.reason.code == "command_not_found", outcome.reason
        assert program in outcome.reason.message


def test_an_image_that_says_nothing_to_run(rig: Rig) -> None:
    empty = image("empty", "CMD []")
    outcome, *_ = rig.image(empty).call(b"{}")
    assert outcome.reason
    assert outcome.reason.code == "command_not_found", outcome.reason
    assert '["echo", "hello"]' in outcome.reason.message


def test_a_user_that_the_image_does_not_have(rig: Rig) -> None:
    outcome, *_ = rig.image(image("nobody", "USER nosuchuser")).call(sh("true"))
    assert outcome.reason
    assert outcome.reason.code == "image_unavailable", outcome.reason


def test_nothing_is_left_of_a_killed_miniworker(rig: Rig, plain: str) -> None:
    mini = rig.image(plain)
    mini.job(1, sh("sleep 300"))
    eventually(lambda: rig.inside(mini), what="a container")
    os.kill(mini.pid, signal.SIGKILL)
    eventually(lambda: not containers(rig, mini), what="the container gone")


def test_an_engine_that_dies_while_it_runs_loses_the_call_and_leaves_nothing(
    rig: Rig, plain: str, proxy: EngineProxy
) -> None:
    with rig.reaching(proxy.address):
        mini = rig.image(plain)
    # It heeds nothing but SIGKILL, and nobody inside would notice that its engine was away.
    mini.job(1, sh("trap '' TERM INT HUP; while :; do sleep 1; done"), timeout_ms=300_000)
    eventually(lambda: rig.inside(mini), what="a container")
    proxy.refuse()
    outcome, *_ = mini.done()
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.LOST, "sandbox_lost")
    assert rig.exit_of(mini.name).status == LEFT_BEHIND
    eventually(lambda: not containers(rig, mini), what="the container gone")


def test_an_engine_that_is_away_when_a_call_comes_is_the_nodes_fault(
    rig: Rig, plain: str, proxy: EngineProxy
) -> None:
    with rig.reaching(proxy.address):
        mini = rig.image(plain)
    proxy.refuse()
    mini.job(1, sh("true"))
    answer = mini.recv()[0]
    assert isinstance(answer, jobs.Broken), answer
    assert (answer.fault, answer.reason.code) == (Fault.NODE, "no_sandbox")
    assert "does not answer" in answer.reason.message
    # Whether it understood nobody knows: it is looked for, for a while.
    assert rig.exit_of(mini.name).status == LEFT_BEHIND
    eventually(lambda: not underway(rig), limit_s=60)
    assert not containers(rig, mini)


def underway(rig: Rig) -> list[Path]:
    """Return what the engine was asked for and has not answered."""
    return list(Path(rig.settings["folder"], "underway").iterdir())


def asked(rig: Rig, plain: str, proxy: EngineProxy, looks: int) -> Mini:
    """Return one whose call is kept from the engine until so many lists were asked for."""
    with rig.reaching(proxy.address):
        mini = rig.image(plain)
    proxy.late(b"/containers/create", until=b"/containers/json", times=looks)
    mini.job(1, sh("true"))
    eventually(lambda: proxy.has_kept)
    return mini


def test_what_is_made_after_the_look_for_it_is_found_by_another(
    rig: Rig, plain: str, proxy: EngineProxy
) -> None:
    mini = asked(rig, plain, proxy, looks=1)
    os.kill(mini.pid, signal.SIGKILL)
    assert rig.exit_of(mini.name).status == -signal.SIGKILL
    assert underway(rig)
    # It is looked for already, but not through the proxy: now it may be made.
    proxy.come()
    eventually(lambda: not underway(rig))
    assert engine.containers(rig.settings["installation"]) == []


def test_what_an_engine_lists_before_it_can_remove_it_is_removed(
    found: dict[str, Any], plain: str, tmp_path: Path
) -> None:
    # That is so for some milliseconds: looks have to come often to meet it.
    often = (0.001, 0.001)
    settings = found["settings"] | engine.identity() | {"folder": str(tmp_path)}
    labels = {"skep": settings["installation"], "skep.node": settings["node"]}
    underway = Underway(tmp_path)
    with closing(Engine()) as asks, ThreadPoolExecutor(1) as thread:
        for number in range(12):
            name = f"{settings['node']}-{number}"
            # As if whoever asks were killed before the answer.
            underway.begin(name, labels)
            asked = thread.submit(asks.create, name, {"Image": plain, "Labels": labels})
            assert not sweep(settings, Whose(), patience_s=60, pauses_s=often)
            asked.result()
            assert engine.containers(settings["installation"]) == []


def ended(found: dict[str, Any], plain: str, proxy: EngineProxy, looks: int) -> Rig:
    """Return a node that has ended while its engine kept a request until so many looks."""
    with Rig(found["settings"] | {"engine": proxy.address}, driver="docker") as rig:
        eventually(lambda: descendants(rig.zygote.pid) == set(), what="its first look is over")
        asked(rig, plain, proxy, looks)
    return rig


def test_a_node_that_ends_waits_for_what_its_engine_makes_for_the_dead(
    found: dict[str, Any], plain: str, proxy: EngineProxy
) -> None:
    rig = ended(found, plain, proxy, looks=2)
    # Its zygote has killed the miniworker, and its first look at its end came too early. An
    # engine that takes longer than it waits is looked at once more by another.
    proxy.come()
    eventually(lambda: not underway(rig), limit_s=60)
    assert engine.containers(rig.settings["installation"]) == []


def test_what_an_engine_makes_when_the_node_has_ended_is_removed_all_the_same(
    found: dict[str, Any], plain: str, proxy: EngineProxy
) -> None:
    rig = ended(found, plain, proxy, looks=100)
    assert underway(rig)
    proxy.come()
    eventually(lambda: not underway(rig), limit_s=60)
    assert engine.containers(rig.settings["installation"]) == []


def test_every_worker_of_an_installation_removes_what_has_expired(
    found: dict[str, Any], plain: str
) -> None:
    own = found["settings"]["installation"]
    other = engine.identity()["installation"]

    def made(installation: str, expires: int) -> str:
        labels = {"skep": installation, "skep.node": "dead", "skep.expires": str(expires)}
        words = [f"--label={name}={value}" for name, value in labels.items()]
        return engine.docker("create", *words, plain, "sleep", "300")

    now = int(time.time())
    past, future, theirs = made(own, now - 1), made(own, now + 600), made(other, now - 1)
    try:
        sweep(found["settings"], Whose(parent=os.getpid()))
        assert engine.containers(own, "skep.node=dead") == [future]
        assert engine.containers(other) == [theirs]
    finally:
        engine.docker("rm", "--force", future, theirs)
    assert past not in engine.containers(own)


def test_a_driver_without_containers_says_that_an_engine_is_needed() -> None:
    with Rig(driver="fake") as rig:
        answer = rig.spawn().specialise(image_spec("debian"), "-")
        assert isinstance(answer, jobs.Broken)
        assert (answer.fault, answer.reason.code) == (Fault.FUNCTION, "image_unavailable")
        assert "--sandbox docker" in answer.reason.message
