"""The example of an agent in another language: in real sandboxes, and as its page shows it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from miniworker.processes import descendants
from tests.conftest import eventually
from tests.miniworker.rig import Mini, Rig, open_folder, probe, spec
from wire import jobs
from wire.models import Fault, Reason, Runtime, Status

ROOT = Path(__file__).parents[2]
HERE = ROOT / "runtimes" / "perl"
needs_perl = pytest.mark.skipif(not shutil.which("perl"), reason="there is no perl here")


def test_the_document_quotes_the_file_which_is_short() -> None:
    source = (HERE / "agent.pl").read_text()
    assert len(source.splitlines()) < 60
    assert f"```perl\n{source}```\n" in (ROOT / "docs" / "runtimes.md").read_text()


def test_runtime_json_is_a_runtime() -> None:
    runtime = msgspec.json.decode((HERE / "runtime.json").read_bytes(), type=Runtime)
    assert (runtime.agent, runtime.path) == ("perl", "/ws")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the strongest level here needs, with the agents of this tree."""
    found: dict[str, str] = probe(open_folder(tmp_path_factory.mktemp("perl")), "auto")[
        "settings"
    ]
    return found


@pytest.fixture
def rig(settings: dict[str, str]) -> Iterator[Rig]:
    with Rig(settings) as rig:
        yield rig


def perl(rig: Rig, run: str, files: dict[str, str] | None = None, **more: Any) -> Mini:
    mini = rig.spawn()
    order = spec(runtime={"agent": "perl", "run": run}, **more)
    ready = mini.specialise(order, rig.bundle(files or {}))
    assert isinstance(ready, jobs.Ready), ready
    return mini


@needs_perl
def test_a_call_has_its_params_files_and_environment(rig: Rig) -> None:
    source = 'print STDERR "log"; print <STDIN>, " $ENV{SKEP_CALL} $ENV{WORD}";'
    word = 'a "quoted" \\ wörd\nof two lines'
    mini = perl(rig, "perl main.pl", {"main.pl": source}, env={"WORD": word})
    for _ in range(2):
        outcome, result, stdout, stderr = mini.call(b'{"a": 1}')
        assert outcome.status is Status.DONE, outcome
        assert (result.decode(), stdout, stderr) == (f'{{"a": 1}} 1 {word}', "", "log")


@needs_perl
@pytest.mark.parametrize(
    ("run", "code"),
    [
        ("echo part; exit 3", "exit_code"),
        ("echo part; kill -9 $$", "signal"),
        ("echo part; no-such-program", "exit_code"),
        ("echo part; head -c 7000000 /dev/zero", "result_too_large"),
    ],
)
def test_a_call_that_fails_says_so_and_hurts_no_other(rig: Rig, run: str, code: str) -> None:
    mini = perl(rig, run)
    for _ in range(2):
        outcome, result, stdout, _ = mini.call()
        assert outcome.reason is not None
        assert (outcome.status, outcome.reason.code, result) == (Status.FAILED, code, b"")
        assert stdout.startswith("part\n")
        printed = 7_000_005 if code == "result_too_large" else 5
        assert len(stdout) + outcome.omitted == printed


@needs_perl
def test_a_call_is_killed_with_all_that_it_started(rig: Rig) -> None:
    mini = perl(rig, "echo so far; setsid sleep 600 & sleep 600")
    idle = len(descendants(mini.pid))
    assert mini.call(timeout_ms=300)[0].status is Status.TIMEOUT
    mini.job(1)
    # The shell and both sleeps: by then it has printed.
    eventually(lambda: len(descendants(mini.pid)) >= idle + 3)
    mini.send(jobs.Cancel(call=1, attempt=1, reason=Reason(code="cancelled", message="")))
    outcome, _, stdout, _ = mini.done()
    assert (outcome.status, stdout) == (Status.CANCELLED, "so far\n")
    mini.stop()


@needs_perl
def test_what_it_cannot_do_it_says(rig: Rig) -> None:
    mini = rig.spawn()
    broken = mini.specialise(spec(runtime={"agent": "perl", "run": ""}), rig.bundle({}))
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "command_not_found")


def test_an_agent_that_this_node_does_not_have_is_named(rig: Rig) -> None:
    mini = rig.spawn()
    broken = mini.specialise(spec(runtime={"agent": "cobol", "run": "x"}), rig.bundle({}))
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.NODE, "no_agent")
    assert "'cobol'" in broken.reason.message
    assert "SKEP_RUNTIMES" in broken.reason.message


@needs_perl
def test_an_agent_of_ones_own_is_a_file_in_a_named_folder(tmp_path: Path) -> None:
    for name in ("mine", "Not-A-Name", "python"):
        (tmp_path / "runtimes" / name).mkdir(parents=True)
        shutil.copy(HERE / "agent.pl", tmp_path / "runtimes" / name / "agent.pl")
    env = {"SKEP_RUNTIMES": f"{tmp_path}/none:{tmp_path}/runtimes"}
    found = probe(open_folder(tmp_path), "auto", env)
    agents = Path(found["settings"]["tools"], "agents")
    assert {path.name for path in agents.iterdir()} >= {"mine", "perl", "python.py"}
    assert not (agents / "Not-A-Name").exists()
    assert not (agents / "python").exists()
    with Rig(found["settings"]) as rig:
        mini = rig.spawn()
        order = spec(runtime={"agent": "mine", "run": "echo $0"})
        assert isinstance(mini.specialise(order, rig.bundle({})), jobs.Ready)
        assert mini.call()[1] == b"/bin/sh\n"
        mini.stop()
