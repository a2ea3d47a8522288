"""What every agent does, over transports other than mounts: the core of the conformance table.

The whole table (test_conformance.py) runs over mounts and over the process driver.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniworker.loop import LEFT_BEHIND
from tests import engine
from tests.conftest import eventually
from tests.miniworker.engine_proxy import EngineProxy
from tests.miniworker.rig import Rig, probe, spec
from tests.runtimes.languages import LANGUAGES, Language
from tests.runtimes.places import Place
from tests.runtimes.test_conformance import HANDLED, LOG, WORD, ended, handler, script
from wire import jobs
from wire.models import Fault, Status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["volumes", "stdio"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    if request.param == "stdio":
        settings = probe(tmp_path_factory.mktemp("stdio"), "container-stdio")["settings"]
        with Rig(settings, driver="docker") as rig:
            yield rig
        return
    engine.require()
    volume = f"skep-test-{secrets.token_hex(4)}"
    engine.docker("volume", "create", "--label", "skep=test", volume)
    try:
        yield from _in_volume(volume)
    finally:
        engine.docker("volume", "rm", volume)


def _in_volume(volume: str) -> Iterator[Rig]:
    """Give a rig whose files lie in a volume, seen where a worker's container would."""
    form = "{{.Mountpoint}}"
    inside = Path(engine.docker("volume", "inspect", "--format", form, volume))
    seen = Path("/tmp") / volume
    if not os.access(inside, os.W_OK):
        pytest.skip(f"{engine.NEEDED}: whose volumes this user may write")
    seen.symlink_to(inside)
    try:
        settings: dict[str, str] = probe(seen, "container")["settings"]
        mounts = json.dumps({str(seen): str(inside)})
        settings |= {"transport": "volumes", "mounts": mounts}
        with Rig(settings, driver="docker", place=str(seen)) as rig:
            yield rig
    finally:
        seen.unlink()


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    shared.clear()
    shared.check()


def _require(language: Language, rig: Rig) -> None:
    if rig.settings["transport"] == "volumes" and language.name != "python":
        pytest.skip("bound as over mounts: only the sources are others, whatever the agent")
    engine.runtime_image(language.name)


@pytest.mark.parametrize("language", LANGUAGES, ids=str)
def test_scripts(rig: Rig, language: Language) -> None:
    _require(language, rig)
    place = script(rig, language)
    outcome, result, _, stderr = place.call({"do": "echo", "much": "é" * 200_000})
    assert outcome.status is Status.DONE, stderr
    assert json.loads(result) == {"do": "echo", "much": "é" * 200_000}
    assert place.call({"do": "env"})[1].decode().rstrip("\n") == f"{WORD} f"
    assert ended(place, {"do": "exit"}, "exit_code", "the code 3") == ("part\n", "")
    outcome, result, _, stderr = place.call({"do": "log"})
    assert (outcome.status, result, stderr) == (Status.DONE, b"done\n", "x" * LOG)
    ended(place, {"do": "big"}, "result_too_large")
    outcome, _, stdout, _ = place.call({"do": "wait"}, timeout_ms=3000)
    assert (outcome.status, stdout) == (Status.TIMEOUT, "so far\n")
    assert place.call({"do": "behind"})[1] == b"done\n"
    assert place.processes("sleep") == []
    assert place.call({"do": "write"})[0].status is Status.DONE


@pytest.mark.parametrize("language", HANDLED, ids=str)
def test_handlers(rig: Rig, language: Language) -> None:
    _require(language, rig)
    place = handler(rig, language, "one")
    for value in ("text\n", None, "x" * 2_000_000, 1.5):
        assert json.loads(place.call([value])[1]) == value
    assert place.sandboxes == 1
    place = handler(rig, language, "says", isolation="fork")
    outcome, result, stdout, stderr = place.call(["three"])
    assert (result, stdout, stderr) == (b"5", "three\n", "three!\n"), outcome
    place = handler(rig, language, "wait")
    for _ in range(2):
        outcome, _, stdout, _ = place.call([], timeout_ms=3000)
        assert (outcome.status, stdout) == (Status.TIMEOUT, "so far\n"), outcome
    place = handler(rig, language, "die_now")
    for _ in range(2):
        ended(place, [], "signal", "SIGKILL")


def test_the_agent_of_the_document(rig: Rig) -> None:
    perl = Language(name="perl", program="perl", test="main.pl", script="", run="perl main.pl")
    files = {"main.pl": "local $/; my $in = <STDIN>; print uc $in; sleep 600 if $in =~ /wait/;"}
    place = Place(rig, perl, files, run=perl.run, runtime={"image": engine.base_image()})
    assert place.call(b'{"a": "b"}')[1] == b'{"A": "B"}'
    assert place.call(b'"wait"', timeout_ms=3000)[0].status is Status.TIMEOUT
    assert place.call(b'{"a": "c"}')[1] == b'{"A": "C"}'


# --- builds -------------------------------------------------------------------------------


def build(rig: Rig, command: str, **more: Any) -> tuple[jobs.Built, Path]:
    bundle = rig.bundle({"test.py": "import lib; print(lib.text, open('kept').read())"})
    mini = rig.spawn()
    order = spec(runtime={"dependencies": command})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=60_000, **more))
    built, _ = mini.built()
    mini.stop()
    return built, bundle


def test_what_a_build_made_is_the_bundle_of_calls(rig: Rig, tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_text("the authorities")
    authorities.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    made = (
        "mkdir -p .packages/bin && echo 'text = 42' >.packages/lib.py && cat $PIP_CERT >kept"
        " && printf '#!/bin/sh\\n' >.packages/bin/run && chmod 700 .packages/bin/run"
        " && ln kept twin && ln -s kept link && ln -s /etc/passwd out && mkfifo pipe"
        " && touch -d @1000000000 .packages/lib.py && echo installed"
    )
    built, bundle = build(rig, made, env={"PIP_CERT": str(authorities)})
    assert (built.reason, built.log) == (None, "installed\n")
    assert (bundle / "kept").read_text() == (bundle / "twin").read_text() == "the authorities"
    assert [str((bundle / name).readlink()) for name in ("link", "out")] == [
        "kept",
        "/etc/passwd",
    ]
    assert not (bundle / "pipe").exists()
    assert (bundle / ".packages/bin/run").stat().st_mode & 0o777 == 0o755
    found = (bundle / ".packages/lib.py").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o644)
    assert found.st_mtime == 1_000_000_000
    mini = rig.spawn()
    order = spec(runtime={"dependencies": made})
    assert isinstance(mini.specialise(order, bundle), jobs.Ready)
    assert mini.call()[1] == b"42 the authorities\n"


def test_a_build_that_fails_leaves_the_bundle_as_it_was(rig: Rig) -> None:
    built, bundle = build(rig, "echo out of luck >&2; exit 3")
    assert built.reason is not None
    assert (built.fault, built.reason.code) == (Fault.FUNCTION, "install_failed")
    assert built.reason.message.endswith("out of luck")
    assert [path.name for path in bundle.iterdir()] == ["test.py"]


# --- lives --------------------------------------------------------------------------------


def test_a_waiting_sandbox_is_given_its_code_later(rig: Rig) -> None:
    if rig.settings["transport"] == "volumes":
        pytest.skip("as over mounts: tests/miniworker/test_generic.py")
    mini = rig.spawn()
    mini.send(jobs.Premake(spec=spec(), bundles=str(rig.bundle({}))))
    assert mini.recv()[0].key == ""
    bundle = rig.bundle({"test.py": "import os; print(os.path.realpath('test.py'))"})
    assert isinstance(mini.specialise(spec(), bundle), jobs.Ready)
    assert mini.call()[1].decode() == f"/skep/bundles/{bundle.name}/test.py\n"


def test_an_engine_that_goes_away_takes_its_calls_and_nothing_stays(
    rig: Rig, tmp_path: Path
) -> None:
    if rig.settings["transport"] == "volumes":
        pytest.skip("as over mounts: tests/miniworker/test_container.py")
    with EngineProxy(tmp_path / "engine.sock") as proxy:
        with rig.reaching(proxy.address):
            mini = rig.script("import time; print('on', flush=True); time.sleep(600)")
        mini.job(1)
        (container,) = engine.containers(rig.settings["installation"])
        eventually(lambda: len(engine.processes(container)) > 1)
        proxy.refuse()
        outcome = mini.done()[0]
        assert outcome.reason is not None
        assert (outcome.status, outcome.reason.code) == (Status.LOST, "sandbox_lost")
        assert rig.exit_of(mini.name).status == LEFT_BEHIND


def test_nothing_is_left_of_a_miniworker_that_is_killed(rig: Rig) -> None:
    mini = rig.script("import time; print('on', flush=True); time.sleep(600)")
    mini.job(1)
    label = f"skep.miniworker={mini.name}"
    (container,) = engine.containers(rig.settings["installation"], label)
    eventually(lambda: len(engine.processes(container)) > 1)
    os.kill(mini.pid, signal.SIGKILL)
    eventually(lambda: not engine.processes(container))
    rig.exit_of(mini.name)
    rig.check()


def test_a_sandbox_can_change_nothing_that_is_not_its_own(rig: Rig) -> None:
    mini = rig.script("""
import os
for path in ("/skep/x", "/skep/agents/x", "/skep/bundles/x", "/etc/x", "/x", "test.py"):
    try:
        open(path, "w").close()
        print(path)
    except OSError:
        pass
print(os.getuid(), sorted(os.listdir("/proc/self/fd")))
""")  # fmt: skip
    outcome, result, _, stderr = mini.call()
    assert outcome.status is Status.DONE, stderr
    # Its own three, what it reports by (200), and the listing itself: no way to the miniworker.
    assert result == b"65532 ['0', '1', '2', '200', '3']\n"


def test_a_first_process_that_cannot_run_says_why(rig: Rig) -> None:
    mini = rig.spawn()
    base = {"image": engine.base_image()}
    answer = mini.specialise(spec(runtime=base), rig.bundle({"test.py": ""}))
    assert isinstance(answer, jobs.Broken)
    assert "python3" in answer.reason.message
    assert answer.reason.code == "command_not_found"
