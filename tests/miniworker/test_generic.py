"""Generic sandboxes: made without code, claimed by a function, blind to all other bundles."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from miniworker.processes import kill
from tests.conftest import eventually
from tests.miniworker.rig import Driver, Mini, Rig, gone, spec
from wire import jobs
from wire.models import Fault, Status


def shelf(rig: Rig) -> Path:
    """Return a folder of bundles as a worker keeps it: to be passed, not to be listed."""
    folder = rig.cwd / f"bundles-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o111 if os.geteuid() == 0 else 0o311)
    return folder


def put(folder: Path, source: str) -> Path:
    """Put a bundle on the shelf, under a name that nobody can guess."""
    bundle = folder / secrets.token_hex(16)
    bundle.mkdir(mode=0o755)
    (bundle / "test.py").write_text(source)
    return bundle


def premade(rig: Rig, bundles: Path, driver: Driver | None = None) -> Mini:
    # Of the driver docker, which has to know which folder may be shown as a whole.
    if rig.driver == "docker":
        rig.settings["bundles"] = str(bundles)
    mini = rig.spawn(driver)
    mini.send(jobs.Premake(spec=spec(), bundles=str(bundles)))
    ready, _ = mini.recv()
    assert isinstance(ready, jobs.Ready), ready
    assert (ready.key, ready.load_ms) == ("", 0.0)
    return mini


def waiting(rig: Rig, mini: Mini) -> tuple[int, int]:
    """Return the first process of a generic sandbox, and the host that it forked ahead."""
    eventually(lambda: len(rig.inside(mini)) == 2)
    first, host = sorted(rig.inside(mini))
    return first, host


def specialised(mini: Mini, bundle: Path, **function: Any) -> None:
    ready = mini.specialise(spec(**function), bundle)
    assert isinstance(ready, jobs.Ready), ready
    assert ready.key == spec(**function).key


def test_a_claimed_sandbox_is_as_one_that_was_made_for_its_function(rig: Rig) -> None:
    """Environment, code and calls are the function's; the process is the one that waited."""
    bundles = shelf(rig)
    mini = premade(rig, bundles)
    first, host = waiting(rig, mini)
    source = """
import json, os, sys
print(json.dumps({"params": json.load(sys.stdin), "mine": os.environ["MINE"],
    "function": os.environ["SKEP_FUNCTION"], "here": sorted(os.listdir())}))
"""
    specialised(mini, put(bundles, source), env={"MINE": "yes"})
    # No handler came, and nothing may be beside the code of a script.
    assert rig.inside(mini) == {first}
    assert host != first
    for number in (1, 2):
        outcome, result, _, stderr = mini.call(b"%d" % number)
        assert outcome.status is Status.DONE, stderr
        assert json.loads(result) == {
            "params": number,
            "mine": "yes",
            "function": "f",
            "here": ["test.py"],
        }
    mini.stop()


@pytest.mark.parametrize("isolation", ["none", "fork"])
def test_a_handler_is_loaded_by_the_host_that_waited(rig: Rig, isolation: str) -> None:
    bundles = shelf(rig)
    mini = premade(rig, bundles)
    waited = set(waiting(rig, mini))
    bundle = put(bundles, _HANDLER)
    specialised(mini, bundle, entry="test.main", isolation=isolation, env={"MINE": "yes"})
    assert rig.inside(mini) == waited
    for number in (1, 2):
        outcome, result, _, stderr = mini.call(b"%d" % number)
        assert outcome.status is Status.DONE, stderr
        assert json.loads(result) == [number, "yes", "f", ["test.py"], []]
    mini.stop()


#: Says what it finds: params, environment, folder, descriptors beside those of its host.
_HANDLER = """
import os
def main(number):
    opened = [int(n) for n in os.listdir("/proc/self/fd")]
    own = [n for n in opened if 2 < n < 200 and os.path.exists(f"/proc/self/fd/{n}")]
    return [number, os.environ["MINE"], os.environ["SKEP_FUNCTION"], os.listdir(), own]
"""


def test_a_host_that_died_while_it_waited_is_replaced(rig: Rig) -> None:
    bundles = shelf(rig)
    mini = premade(rig, bundles)
    first, host = waiting(rig, mini)
    kill(host)
    gone(host)
    specialised(mini, put(bundles, _HANDLER), entry="test.main", env={"MINE": "yes"})
    assert host not in rig.inside(mini)
    assert first in rig.inside(mini)
    outcome, result, _, stderr = mini.call(b"1")
    assert outcome.status is Status.DONE, stderr
    assert json.loads(result)[0] == 1
    mini.stop()


def test_a_claimed_sandbox_finds_no_bundle_but_its_own(rig: Rig) -> None:
    bundles = shelf(rig)
    other = put(bundles, "SECRET = 'other'")
    mini = premade(rig, bundles)
    own = put(bundles, _LOOK)
    specialised(mini, own)
    outcome, result, _, stderr = mini.call(json.dumps({"own": own.name}).encode())
    assert outcome.status is Status.DONE, stderr
    facts = json.loads(result)
    assert facts["own"]
    if rig.settings.get("level") == "rlimits" and os.geteuid() == 0:
        pytest.skip("as root and without a user of its own nothing is hidden")
    assert facts["listed"] == facts["changed"] == []
    assert facts["names"] == [own.name]
    assert other.name not in result.decode()


#: Looks for names of bundles wherever a process may look, its own parent folders included.
_LOOK = """
import json, os, re, sys
own = json.load(sys.stdin)["own"]
place = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
def tried(work):
    try:
        return [str(work())]
    except OSError:
        return []
def texts():
    for folder, folders, files in os.walk("/proc"):
        folders[:] = [n for n in folders if n.isdigit() or n in ("self", "fd", "task", "net")]
        for name in files:
            if name in ("mountinfo", "mounts", "cmdline", "environ", "maps", "comm", "unix"):
                try:
                    yield open(os.path.join(folder, name), errors="replace").read()
                except OSError:
                    pass
        for name in (*folders, *files):
            try:
                yield os.readlink(os.path.join(folder, name))
            except OSError:
                pass
    yield json.dumps(dict(os.environ))
name = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
names = {n for text in texts() for n in name.findall(text)}
print(json.dumps({"own": os.path.exists(os.path.join(place, own, "test.py")),
    "listed": tried(lambda: os.listdir(place)),
    "changed": tried(lambda: os.chmod(place, 0o777)) + tried(lambda: os.mkdir(place + "/x")),
    "names": sorted(names | {own})}))
"""


def test_what_cannot_be_loaded_ends_the_claim(rig: Rig) -> None:
    bundles = shelf(rig)
    mini = premade(rig, bundles)
    bundle = put(bundles, "raise RuntimeError('no')")
    broken = mini.specialise(spec(entry="test.missing"), bundle)
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert rig.exit_of(mini.name).status == 0


def test_a_sandbox_is_specialised_once(rig: Rig) -> None:
    bundles = shelf(rig)
    mini = premade(rig, bundles)
    specialised(mini, put(bundles, "print(1)"))
    assert isinstance(mini.specialise(spec(), put(bundles, "print(2)")), jobs.Broken)


def test_a_generic_sandbox_that_dies_says_so(rig: Rig) -> None:
    mini = premade(rig, shelf(rig))
    for pid in rig.inside(mini):
        kill(pid)
    broken, _ = mini.recv()
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.NONE, "sandbox_lost")
    assert rig.exit_of(mini.name).status == 0


def test_a_killed_miniworker_takes_its_generic_sandbox_with_it(rig: Rig) -> None:
    mini = premade(rig, shelf(rig))
    left = rig.inside(mini)
    assert left
    os.kill(mini.pid, 9)
    assert rig.exit_of(mini.name).status == -9
    for pid in left:
        gone(pid)


def test_a_job_before_any_code_is_returned(rig: Rig) -> None:
    mini = premade(rig, shelf(rig))
    mini.job(1)
    message, _ = mini.recv()
    assert message == jobs.Returned(call=1, attempt=1)
    mini.stop()


def test_the_double_can_wait_too(strongest: dict[str, Any]) -> None:
    with Rig(strongest["settings"]) as rig:
        bundles = shelf(rig)
        mini = premade(rig, bundles, "fake")
        specialised(mini, put(bundles, ""))
        assert mini.call(b"[1]")[1] == b"[1]"
        mini.stop()
        eventually(lambda: not Path(f"/proc/{mini.pid}").exists(), what="its end")
