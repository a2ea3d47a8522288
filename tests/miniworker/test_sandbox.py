"""Real scripts in real sandboxes, at every level that this host has."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from miniworker.processes import descendants
from tests.conftest import eventually
from tests.miniworker.rig import Rig, gone, spec
from wire import jobs
from wire.models import Fault, Status

MIB = 1 << 20
#: So long that only a kill can end it within the test's limit.
FOREVER = "import time; time.sleep(600)"


def code(outcome: Any) -> str | None:
    return outcome.reason.code if outcome.reason else None


def test_a_script_is_a_true_python_program(rig: Rig) -> None:
    source = """
import atexit, json, os, sys, threading, time
import beside
params = json.load(sys.stdin)
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: time.sleep(0.1) or print("thread")).start()
facts = {"name": __name__, "argv": sys.argv, "main": sys.modules["__main__"].params,
    "file": os.path.basename(__file__), "cwd": os.getcwd(), "beside": beside.VALUE,
    "same": json.loads(os.environ["SKEP_PARAMS"]) == params, "call": os.environ["SKEP_CALL"],
    "function": os.environ["SKEP_FUNCTION"], "revision": os.environ["SKEP_REVISION"],
    "mine": os.environ["MINE"], "theirs": os.environ["THEIRS"], "packages": False,
    "left": 0 < int(os.environ["SKEP_DEADLINE_MS"]) <= 15000, "stderr": sys.stderr.name,
    "children": os.path.exists("agent.sock"), "home": os.access(os.environ["HOME"], os.W_OK)}
print(json.dumps(facts))
sys.stderr.write("a log")
"""
    mini = rig.spawn()
    order = spec(
        run="python3 test.py one 'two words'",
        env={"MINE": "function", "THEIRS": "function"},
        runtime={"env": {"THEIRS": "runtime"}},
    )
    bundle = rig.bundle({"test.py": source, "beside.py": "VALUE = 7"})
    assert isinstance(mini.specialise(order, bundle), jobs.Ready)
    outcome, result, stdout, stderr = mini.call(b'{"a": [1, "\xc3\xa9"]}')
    assert outcome.status is Status.DONE, (outcome, stderr)
    lines = result.decode().splitlines()
    facts = json.loads(lines[0])
    assert lines[1:] == ["thread", "at exit"]
    assert facts["argv"] == ["test.py", "one", "two words"]
    assert (facts["name"], facts["file"], facts["beside"]) == ("__main__", "test.py", 7)
    assert facts["main"] == {"a": [1, "é"]}
    assert facts["same"] and facts["left"] and facts["home"]
    assert (facts["call"], facts["function"], facts["revision"]) == ("1", "f", "3")
    assert (facts["mine"], facts["theirs"]) == ("function", "function")
    assert (facts["stderr"], stderr, stdout) == ("<stderr>", "a log", "")
    assert outcome.peak_memory is not None
    if _has_view(rig):
        assert facts["cwd"] == "/ws"


def test_each_call_is_a_fresh_process(rig: Rig) -> None:
    mini = rig.script("import sys; sys.modules['json'].marked = hasattr(sys.modules['json'], "
                      "'marked') or None; print(sys.modules['json'].marked)")  # fmt: skip
    assert [mini.call()[1] for _ in range(3)] == [b"None\n"] * 3


def test_a_failing_script_says_why(rig: Rig) -> None:
    mini = rig.script("import sys\ndef f():\n    raise ValueError('bad roll')\nf()\n")
    outcome, result, _, stderr = mini.call()
    assert (outcome.status, code(outcome), result) == (Status.FAILED, "raised", b"")
    assert outcome.reason is not None
    assert outcome.reason.message == "ValueError: bad roll"
    assert stderr.startswith("Traceback (most recent call last):\n  File ")
    assert stderr.count("File ") == 2
    assert "agent" not in stderr


@pytest.mark.parametrize(
    ("source", "status", "reason", "stderr"),
    [
        ("import sys; print('x'); sys.exit(3)", Status.FAILED, "exit_code", ""),
        ("import sys; sys.exit('no')", Status.FAILED, "exit_code", "no\n"),
        ("raise SystemExit", Status.DONE, None, ""),
        ("import os; os._exit(4)", Status.FAILED, "exit_code", ""),
        ("import os; os._exit(0)", Status.DONE, None, ""),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            Status.FAILED,
            "signal",
            "",
        ),
        ("import os; os.abort()", Status.FAILED, "signal", ""),
        ("import os; os.close(1)", Status.DONE, None, ""),
        ("import sys; sys.stdout.close()", Status.DONE, None, ""),
        ("import os; os.closerange(0, 4096); x = 1 / 0", Status.FAILED, "exit_code", ""),
        ("import os, signal; os.kill(0, signal.SIGTERM)", Status.FAILED, "signal", ""),
    ],
)
def test_how_a_script_can_end(
    rig: Rig, source: str, status: Status, reason: str | None, stderr: str
) -> None:
    mini = rig.script(source)
    outcome, _, _, log = mini.call()
    assert (outcome.status, code(outcome), log) == (status, reason, stderr)
    # And it never hurts the next call.
    assert mini.call()[0].status is status


def test_ten_megabytes_on_stderr_are_cut_and_counted(rig: Rig) -> None:
    mini = rig.script("import sys; sys.stderr.write('a' * 70000 + 'b' * 10_000_000 + 'c' * 9)")
    outcome, _, _, stderr = mini.call()
    assert outcome.status is Status.DONE
    assert stderr[:65536] == "a" * 65536
    assert stderr.endswith("b" + "c" * 9)
    assert len(stderr) == 131072
    assert outcome.omitted == 10_070_009 - 131072


def test_ten_megabytes_on_stdout_are_too_large_a_result(rig: Rig) -> None:
    mini = rig.script(
        "import sys; print('x' * 10_000_000); print('to its end', file=sys.stderr)"
    )
    outcome, result, stdout, stderr = mini.call()
    assert (outcome.status, code(outcome)) == (Status.FAILED, "result_too_large")
    assert (result, len(stdout), stderr) == (b"", 131072, "to its end\n")
    assert outcome.omitted == 10_000_001 - 131072


def test_a_result_up_to_the_limit_is_whole(rig: Rig) -> None:
    mini = rig.script("import sys; sys.stdout.buffer.write(bytes(range(256)) * (6 << 12))")
    outcome, result, _, _ = mini.call()
    assert outcome.status is Status.DONE
    assert result == bytes(range(256)) * (6 << 12)


def test_params_of_any_size(rig: Rig) -> None:
    mini = rig.script("""
import os, sys
stdin = sys.stdin.read()
path = os.environ.get("SKEP_PARAMS_FILE")
print("SKEP_PARAMS" in os.environ, len(stdin), path is None or open(path).read() == stdin)
""")
    for size in (0, 65536, 65537, 6 * MIB):
        result = mini.call(b"1" * size)[1]
        assert result.decode() == f"{size <= 65536} {size} True\n"


def test_files_left_in_the_way_never_stop_the_params_of_the_next_call(rig: Rig) -> None:
    mini = rig.script("""
import os, sys
for attempt in range(9):
    path = f"{os.environ['TMPDIR']}/skep-params-{attempt}.json"
    os.path.exists(path) or open(path, "x").close()
print(open(os.environ["SKEP_PARAMS_FILE"]).read() == sys.stdin.read())
""")
    for _ in range(3):
        assert mini.call(b"1" * 70_000)[1] == b"True\n"


@pytest.mark.parametrize("init", [{}, {"__init__.py": "MINE = 1"}])
def test_the_bundle_is_importable_as_package_function(rig: Rig, init: dict[str, str]) -> None:
    source = """
from function.sub import VALUE
import function
print(VALUE, vars(function).get("MINE"))
"""
    mini = rig.spawn()
    files = {"test.py": source, "sub.py": "from .other import VALUE", "other.py": "VALUE = 7"}
    assert isinstance(mini.specialise(spec(), rig.bundle(files | init)), jobs.Ready)
    assert mini.call()[1] == (b"7 1\n" if init else b"7 None\n")


def test_what_a_call_does_to_its_folder_is_undone_before_the_next(rig: Rig) -> None:
    source = """
import json, os, shutil, sys
print(sorted(os.listdir()), open("data/kept.txt").read())
os.remove("test.py")
os.symlink("/etc/passwd", "test.py")
os.remove("data")
os.makedirs("data/locked")
open("data/locked/file", "w").close()
os.chmod("data/locked", 0)
open("left", "w").close()
"""
    mini = rig.spawn()
    bundle = rig.bundle({"test.py": source, "data/kept.txt": "kept"})
    assert isinstance(mini.specialise(spec(), bundle), jobs.Ready)
    for _ in range(3):
        outcome, result, _, stderr = mini.call()
        assert outcome.status is Status.DONE, stderr
        assert result == b"['data', 'test.py'] kept\n"


def test_a_bundles_own_function_comes_first(rig: Rig) -> None:
    mini = rig.spawn()
    files = {"test.py": "import function; print(function.OWN)", "function.py": "OWN = 1"}
    assert isinstance(mini.specialise(spec(), rig.bundle(files)), jobs.Ready)
    assert mini.call()[1] == b"1\n"


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER,
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n" + FOREVER,
    ],
)
def test_a_script_that_does_not_end_is_timed_out(rig: Rig, source: str) -> None:
    mini = rig.script(
        "import sys; print('so far', flush=True); print('log', file=sys.stderr)\n" + source
    )
    outcome, result, stdout, stderr = mini.call(timeout_ms=400)
    assert (outcome.status, code(outcome), result) == (Status.TIMEOUT, "timeout", b"")
    assert (stdout, stderr) == ("so far\n", "log\n")
    # Its sandbox has survived, and nothing of the call has.
    assert mini.call(timeout_ms=400)[0].status is Status.TIMEOUT
    eventually(lambda: len(rig.inside(mini)) == 1)


def test_children_left_behind_are_ended_and_do_not_delay(rig: Rig) -> None:
    mini = rig.script("""
import os, time
for kind in range(6):
    if os.fork() == 0:
        if kind % 2:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(600)
print("done")
""")
    for _ in range(2):
        outcome, result, _, _ = mini.call()
        assert (outcome.status, result) == (Status.DONE, b"done\n")
        assert outcome.duration_ms < 10_000


def test_memory_at_its_limit_is_oom(rig: Rig) -> None:
    mini = rig.script("x = b'x' * (200 << 20)", memory=64)
    outcome = mini.call()[0]
    assert (outcome.status, code(outcome)) == (Status.OOM, "oom")
    assert mini.call()[0].status is Status.OOM


@pytest.mark.parametrize(
    ("run", "status", "reason", "result"),
    [
        ("echo hello", Status.DONE, None, b"hello\n"),
        ("sh -c 'cat; echo $SKEP_CALL >&2'", Status.DONE, None, b"{}"),
        ("cat | tr a-z A-Z && echo ok", Status.DONE, None, b"{}ok\n"),
        ("python3 -c 'print(__name__)'", Status.DONE, None, b"__main__\n"),
        ("python3 -u test.py", Status.DONE, None, b"fork\n"),
        ("python3 missing.py", Status.FAILED, "exit_code", b""),
        ("WORD=set env -u HOME sh -c 'echo \"$WORD\"'", Status.DONE, None, b"set\n"),
        ("exec python3 test.py", Status.DONE, None, b"fork\n"),
        ("no-such-program --x", Status.FAILED, "command_not_found", b""),
        ("false", Status.FAILED, "exit_code", b""),
        ("sh -c 'kill -9 $$'", Status.FAILED, "signal", b""),
    ],
)
def test_commands(rig: Rig, run: str, status: Status, reason: str, result: bytes) -> None:
    mini = rig.script("print('fork')", run=run)
    outcome, answer, _, _ = mini.call()
    assert (outcome.status, code(outcome), answer) == (status, reason, result)


PROGRAMS = {
    "hello": ("#!/bin/sh\necho hello $1", 0o755),
    "python": (
        "#!/usr/bin/env python3\nimport sys; print(sys.argv[1:], sys.stdin.read())",
        0o755,
    ),
    "not-executable": ("#!/bin/sh\n", 0o644),
    "no-interpreter": ("#!/no/such/interpreter\n", 0o755),
    "no-program": ("\x7fELF, but not quite", 0o755),
    "folder/deep": ("#!/bin/sh\npwd", 0o755),
}


@pytest.mark.parametrize(
    ("run", "result", "says"),
    [
        ("./hello", b"hello\n", ""),
        ("./hello world", b"hello world\n", ""),
        ("./hello 'two words' | tr a-z A-Z", b"HELLO TWO WORDS\n", ""),
        ("""./python 'a "b"' c\\ d""", b"""['a "b"', 'c d'] {}\n""", ""),
        ("exec ./hello", b"hello\n", ""),
        ("./missing", None, "No such file or directory"),
        ("missing", None, "No such file or directory"),
        ("./not-executable", None, "chmod +x it before packing"),
        ("./no-interpreter", None, "what its #! line names"),
        ("./no-program", None, "neither a program of this machine"),
        ("./folder", None, "is it executable"),
    ],
)
def test_programs_of_the_package(rig: Rig, run: str, result: bytes | None, says: str) -> None:
    bundle = rig.bundle({name: text for name, (text, _) in PROGRAMS.items()})
    for name, (_, mode) in PROGRAMS.items():
        (bundle / name).chmod(mode)
    mini = rig.spawn()
    assert isinstance(mini.specialise(spec(run=run), bundle), jobs.Ready)
    for _ in range(2):
        outcome, answer, _, stderr = mini.call()
        if result is not None:
            assert (outcome.status, answer) == (Status.DONE, result), stderr
            continue
        assert outcome.reason is not None
        assert (outcome.status, outcome.reason.code) == (Status.FAILED, "command_not_found")
        assert says in outcome.reason.message
        assert run.split(maxsplit=1)[0] in outcome.reason.message


@pytest.mark.parametrize("place", [".", "$TMPDIR"])
def test_files_that_a_call_leaves_are_gone_before_the_next(rig: Rig, place: str) -> None:
    mini = rig.script(
        "", run=f"ls -A {place} | grep left; mkdir -p {place}/left; chmod 0 {place}/left"
    )
    for _ in range(2):
        outcome, result, _, _ = mini.call()
        assert (outcome.status, result) == (Status.DONE, b"")


def test_what_an_interpreter_reads_at_its_start_is_obeyed(rig: Rig) -> None:
    mini = rig.script("import sys; print(hash('a'), sys.flags.hash_randomization)",
                      env={"PYTHONHASHSEED": "0"})  # fmt: skip
    assert mini.call()[1] == mini.call()[1]


@pytest.mark.parametrize(
    ("function", "reason"),
    [({"entry": "hello.main"}, "entry_not_found"), ({"run": "'unclosed"}, "command_not_found")],
)
def test_what_can_never_run_is_the_functions_fault(
    rig: Rig, function: dict[str, Any], reason: str
) -> None:
    mini = rig.spawn()
    broken = mini.specialise(spec(**function), rig.bundle({}))
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, reason)
    assert rig.exit_of(mini.name).status == 0


def test_the_agents_process_is_out_of_reach(rig: Rig) -> None:
    if not _has_view(rig):
        pytest.skip("without a pid namespace the first process has no protection")
    mini = rig.script("""
import os, signal
tried = []
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/fd/0"):
    try:
        open(path, "rb+")
    except OSError as error:
        tried.append(type(error).__name__)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
    os.kill(1, number)
print(os.getpid() != 1, tried, sorted(os.listdir("/proc/self/fd"))[:3])
""")
    for _ in range(2):
        outcome, result, _, stderr = mini.call()
        assert outcome.status is Status.DONE, stderr
        assert result.startswith(b"True ['PermissionError', 'PermissionError', 'PermissionErr")


def test_an_agent_that_dies_loses_its_call(rig: Rig) -> None:
    mini = rig.script("print('begun', flush=True)\n" + FOREVER)
    mini.job(1)
    mini.job(2)
    eventually(lambda: len(rig.inside(mini)) > 1)
    os.kill(min(rig.inside(mini)), signal.SIGKILL)
    outcome = mini.done()[0]
    assert (outcome.status, code(outcome)) == (Status.LOST, "sandbox_lost")
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert rig.exit_of(mini.name).status == 0


def test_a_miniworker_killed_takes_all_with_it(rig: Rig) -> None:
    mini = rig.script("import os\nif os.fork() == 0:\n    os.setsid()\n" + FOREVER)
    mini.job(1)
    eventually(lambda: len(rig.inside(mini)) >= 3)
    below = rig.inside(mini) | descendants(mini.pid)
    os.kill(mini.pid, signal.SIGKILL)
    assert rig.exit_of(mini.name).status == -signal.SIGKILL
    for pid in below:
        gone(pid)
    eventually(lambda: not (rig.cwd / "run" / mini.name).exists())


def test_the_zygote_killed_takes_all_with_it(found: dict[str, Any]) -> None:
    with Rig(found["settings"], driver=found["driver"]) as rig:
        mini = rig.script("import os\nif os.fork() == 0:\n    os.setsid()\n" + FOREVER)
        mini.job(1)
        eventually(lambda: len(rig.inside(mini)) >= 3)
        below = rig.inside(mini) | descendants(rig.zygote.pid)
        rig.zygote.kill()
        for pid in below:
            gone(pid)
        rig.zygote.wait()
        rig.zygote.returncode = 0
    # The next one removes what is left of a container, before any test looks for it.
    with Rig(found["settings"], driver=found["driver"]) as rig:
        rig.check()


# --- what it confines ---------------------------------------------------------------------


def _has_view(rig: Rig) -> bool:
    return (
        rig.driver == "docker"
        or rig.settings["level"] == "bubblewrap"
        or rig.settings["namespaces"] == "yes"
    )


def test_a_view_shows_no_more_than_it_must(rig: Rig) -> None:
    if not _has_view(rig):
        pytest.skip("this level has no view of its own")
    mini = rig.script("""
import json, os, socket, stat
def writable(path):
    try:
        with open(os.path.join(path, "x"), "w"):
            return True
    except OSError:
        return False
def reach():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=5)
    except OSError as error:
        return error.errno
print(json.dumps({
    "places": [p for p in ("/ws", "/tmp", "/", "/usr", "/etc", "/skep/bundle", "/skep/tools",
        "/skep/sock", "/dev", "/opt", "/var") if writable(p)],
    "root": sorted(os.listdir("/")), "uids": os.getresuid(), "groups": os.getgroups(),
    "caps": [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")],
    "privs": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")],
    "pids": [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 100],
    "net": reach(), "bundles": os.path.exists("/skep/run")}))
""")
    outcome, result, _, stderr = mini.call()
    assert outcome.status is Status.DONE, stderr
    facts = json.loads(result)
    assert facts["places"] == ["/ws", "/tmp"]
    if rig.driver == "process":
        assert not {"home", "srv", "sys", "run", "boot"} & set(facts["root"])
    if os.geteuid() == 0 or rig.driver == "docker":
        assert min(facts["uids"]) > 1000
    assert facts["groups"] in ([], [facts["uids"][0]])
    assert set(facts["caps"]) == {"0000000000000000"}
    assert facts["privs"] == ["1"]
    assert facts["pids"] == []
    # No route at all: not even a refusal comes back.
    assert facts["net"] == 101


def test_a_sandbox_cannot_touch_the_files_of_root(rig: Rig) -> None:
    if os.geteuid() != 0 or rig.settings.get("level") == "rlimits":
        pytest.skip("needs a user of its own")
    secret = rig.temporary / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    mini = rig.script(f"print(open({str(secret)!r}).read())")
    assert code(mini.call()[0]) == "raised"


# --- builds -------------------------------------------------------------------------------


def build(rig: Rig, command: str, files: dict[str, str], timeout_ms: int = 60_000) -> Any:
    bundle = rig.bundle(files)
    mini = rig.spawn()
    order = spec(runtime={"dependencies": command})
    mini.send(jobs.Build(spec=order, bundle=str(bundle), timeout_ms=timeout_ms))
    built, _ = mini.built()
    mini.stop()
    return built, bundle


def test_what_a_build_leaves_is_the_bundle(rig: Rig) -> None:
    package = (
        'from setuptools import setup\nsetup(name="tiny", version="1", py_modules=["tiny"])'
    )
    command = "mkdir -p .packages && cp src/tiny.py .packages && chmod 600 .packages/* && pwd"
    files = {
        "src/setup.py": package,
        "src/tiny.py": "VALUE = 42",
        "test.py": "import tiny; print(tiny.VALUE)",
    }
    built, bundle = build(rig, command, files)
    assert built.reason is None, built
    made = bundle / ".packages" / "tiny.py"
    assert made.stat().st_uid == os.geteuid()
    assert not made.stat().st_mode & 0o022
    mini = rig.spawn()
    assert isinstance(mini.specialise(spec(), bundle), jobs.Ready)
    assert mini.call()[1] == b"42\n"


def test_the_seeds_own_command_installs(rig: Rig) -> None:
    files = {"requirements.txt": "# nothing\n", "test.py": ""}
    built, _ = build(rig, "pip3 install -r requirements.txt", files)
    assert built.reason is None, built


def test_a_build_that_fails_says_what_it_printed(rig: Rig) -> None:
    built, _ = build(rig, "pip3 install -r missing.txt", {})
    assert (built.fault, built.reason.code) == (Fault.FUNCTION, "install_failed")
    assert "missing.txt" in built.log


def test_a_build_that_hangs_or_finds_no_program(rig: Rig) -> None:
    built, _ = build(rig, "sleep 600", {}, timeout_ms=300)
    assert (built.fault, built.reason.code) == (Fault.FUNCTION, "install_failed")
    built, _ = build(rig, "no-such-installer", {})
    assert built.reason.code == "install_failed"
    assert "no-such-installer" in built.log


def test_a_full_disk_is_the_nodes_fault(rig: Rig) -> None:
    built, _ = build(rig, "echo 'write: No space left on device' >&2; exit 1", {})
    assert (built.fault, built.reason.code) == (Fault.NODE, "no_space")


def test_a_build_leaves_no_trap_in_the_bundle(rig: Rig) -> None:
    command = "ln -s /etc/passwd link; mkfifo pipe; touch file; chmod 4777 file; chmod 0 dir"
    built, bundle = build(rig, command, {"dir/x": ""})
    assert built.reason is None, built
    before = Path("/etc/passwd").stat()
    assert not (bundle / "pipe").exists()
    assert (bundle / "file").stat().st_mode & 0o7777 == 0o755
    assert (bundle / "dir").stat().st_mode & 0o7777 == 0o755
    assert (before.st_uid, before.st_mode & 0o777) == (0, 0o644)
