"""Handlers in real sandboxes, at every level that this host has, and in both isolations."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from miniworker import agent
from tests.conftest import eventually
from tests.miniworker.rig import Mini, Rig, argv, spec
from wire import jobs, packs
from wire.models import Fault, Reason, Status

MODULE = """
import asyncio, json, os, subprocess, sys, threading, time
print("loading", file=sys.stderr)
count = 0
def main(*args, **kwargs):
    global count
    count += 1
    return [count, list(args), kwargs]
def give(value): return value
def environment(): return {k: os.environ.get(k) for k in
    ("SKEP_CALL", "SKEP_FUNCTION", "SKEP_REVISION", "SKEP_DEADLINE_MS", "MINE", "SKEP_PARAMS")}
def traced(): return [os.environ.get(k) for k in ("TRACEPARENT", "TRACESTATE", "SKEP_CALL")]
def from_stdin(deed, pad):
    read = json.load(sys.stdin)
    os.lseek(0, 0, os.SEEK_SET)
    child = json.loads(subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout)
    told = os.environ.get("SKEP_PARAMS")
    if told is None:
        with open(os.environ["SKEP_PARAMS_FILE"]) as file:
            told = file.read()
    if deed == "read a little":
        os.lseek(0, 0, os.SEEK_SET)
        sys.stdin.read(3)
    elif deed == "close":
        sys.stdin.close()
    elif deed == "close the descriptor":
        os.close(0)
    elif deed == "replace":
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        sys.stdin = None
    return [read, child, json.loads(told)]
def fail(text): raise ValueError(text)
def wait(): print("so far"); print("and", end="", flush=True); time.sleep(600)
loop = None
async def later(x):
    global loop
    before, loop = loop, asyncio.get_running_loop()
    await asyncio.sleep(0.001)
    return [x, before is loop]
async def fails_later(): raise KeyError("later")
def unjson(): return {1, 2}
def nan(): return float("nan")
def half(): return "\\ud800"
def prints(out, err):
    print("o" * out, end="", flush=True)
    sys.stderr.write("e" * err)
    os.system("echo from a child")
def slowly():
    for n in range(40): print("x" * 9999, flush=True); time.sleep(0.002)
    return "slow"
"""
_GARBAGE = """
import os
for fd in range(3, 1024):
    try:
        os.write(fd, b'{[')
    except OSError:
        pass
"""
ISOLATIONS = pytest.mark.parametrize("isolation", ["none", "fork"])


def handler(rig: Rig, entry: str, files: dict[str, str] | None = None, **more: Any) -> Mini:
    mini = rig.spawn()
    bundle = rig.bundle({"hello.py": MODULE} if files is None else files)
    ready = mini.specialise(spec(entry=entry, **more), bundle)
    assert isinstance(ready, jobs.Ready), ready
    return mini


#: Params, and what they are as arguments.
ARGUMENTS: list[tuple[bytes, list[Any], dict[str, Any]]] = [
    (b"{}", [], {}),
    (b'{"a": 1, "\xc3\xa9": null}', [], {"a": 1, "é": None}),
    (b"[1, [2]]", [1, [2]], {}),
    (b"[]", [], {}),
    (b'"text"', ["text"], {}),
    (b"null", [None], {}),
    (b"1.5", [1.5], {}),
]


@ISOLATIONS
def test_params_are_arguments(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.main", isolation=isolation)
    for at, (params, args, kwargs) in enumerate(ARGUMENTS, 1):
        outcome, result, stdout, _ = mini.call(params)
        assert (outcome.status, outcome.result_type, stdout) == (Status.DONE, "json", "")
        assert json.loads(result) == [at if isolation == "none" else 1, args, kwargs]
        assert outcome.peak_memory is not None


def test_state_is_kept_in_one_process_and_not_by_forks(rig: Rig) -> None:
    kept = handler(rig, "hello.main")
    assert [json.loads(kept.call()[1])[0] for _ in range(3)] == [1, 2, 3]
    forked = handler(rig, "hello.main", isolation="fork")
    assert [json.loads(forked.call()[1])[0] for _ in range(3)] == [1, 1, 1]


def test_jobs_of_one_pack_run_in_their_order_and_each_has_its_end(rig: Rig) -> None:
    mini = handler(rig, "hello.main")
    mini.pack_of_jobs(*(b"[%d]" % call for call in range(1, 21)))
    ends = [json.loads(mini.done()[1]) for _ in range(20)]
    assert ends == [[call, [call], {}] for call in range(1, 21)]
    # Whoever sent a PACK may be sent one, and goes on to understand single ones.
    assert json.loads(mini.call()[1])[0] == 21


def test_what_is_no_pack_is_counted_and_the_miniworker_goes_on(rig: Rig) -> None:
    mini = handler(rig, "hello.main")
    rig.router.send_multipart([mini.route, packs.HEAD, b"none", b""])
    assert mini.recv()[0] == jobs.Dropped(count=1)
    assert json.loads(mini.call()[1])[0] == 1


#: Values, and their JSON.
TEXTS: list[tuple[Any, str]] = [
    (None, "null"),
    ({"a": [1, True]}, '{"a":[1,true]}'),
    ("é\n", '"é\\n"'),
    ("a\x7f\x1f", '"a\x7f\\u001f"'),
    ("\\u00e9", '"\\\\u00e9"'),
    ({"\U0001f3b2": 1.5}, '{"\U0001f3b2":1.5}'),
    ("", '""'),
]


@ISOLATIONS
def test_the_result_is_the_values_json(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.give", isolation=isolation)
    for value, text in TEXTS:
        assert mini.call(json.dumps([value]).encode())[1].decode() == text


@ISOLATIONS
@pytest.mark.parametrize(
    ("entry", "says"),
    [("unjson", "it returned a set that cannot be JSON"), ("nan", "float"), ("half", "")],
)
def test_a_value_that_json_does_not_have(
    rig: Rig, isolation: str, entry: str, says: str
) -> None:
    outcome, result, _, stderr = handler(rig, f"hello.{entry}", isolation=isolation).call()
    if not says:
        assert result == b'"\\ud800"'
        return
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.FAILED, "raised")
    assert says in outcome.reason.message
    assert says in stderr


@ISOLATIONS
def test_an_exception_has_its_type_text_and_traceback(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.fail", isolation=isolation)
    outcome, result, _, stderr = mini.call(b'["no dice"]')
    assert (outcome.status, result) == (Status.FAILED, b"")
    assert outcome.reason == Reason(code="raised", message="ValueError: no dice")
    assert "hello.py" in stderr
    assert stderr.endswith("ValueError: no dice\n")
    assert stderr.count("File ") == 1
    long = mini.call(json.dumps(["x" * 9000]).encode())[0]
    assert long.reason is not None
    assert 1000 < len(long.reason.message) <= agent.MESSAGE_CHARS
    wrong = mini.call(b"{}")[0]
    assert wrong.reason is not None
    assert "missing 1 required positional argument: 'text'" in wrong.reason.message


@ISOLATIONS
def test_async_functions_run_on_one_loop(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.later", isolation=isolation)
    assert mini.call(b"[1]")[1] == b"[1,false]"
    assert mini.call(b"[2]")[1] == (b"[2,true]" if isolation == "none" else b"[2,false]")
    failing = handler(rig, "hello.fails_later", isolation=isolation).call()[0]
    assert failing.reason is not None
    assert failing.reason.message == "KeyError: 'later'"


@ISOLATIONS
def test_what_it_prints_is_its_log_whoever_prints_it(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.prints", isolation=isolation)
    first = mini.call(b"[0, 0]")
    assert (first[2], first[3]) == ("from a child\n", "loading\n")
    outcome, result, stdout, stderr = mini.call(b"[10, 20]")
    assert (stdout, stderr) == ("o" * 10 + "from a child\n", "e" * 20)
    assert (result, outcome.omitted) == (b"null", 0)
    outcome, _, stdout, stderr = mini.call(b"[300000, 10000000]")
    assert (len(stdout), len(stderr)) == (131072, 131072)
    assert stdout.endswith("from a child\n")
    assert outcome.omitted == 300_000 + 13 + 10_000_000 - 2 * 131072
    assert mini.call(b"[0, 0]")[2:] == ("from a child\n", "")


@ISOLATIONS
def test_what_is_printed_over_time_is_of_its_own_call(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.slowly", isolation=isolation)
    for _ in range(3):
        outcome, result, stdout, _ = mini.call()
        assert result == b'"slow"'
        assert len(stdout) + outcome.omitted == 400_000


@ISOLATIONS
def test_a_call_over_its_time_keeps_its_log_and_its_sandbox(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.wait", isolation=isolation)
    for _ in range(2):
        outcome, _, stdout, stderr = mini.call(timeout_ms=300)
        assert (outcome.status, stdout) == (Status.TIMEOUT, "so far\nand")
        # Loaded again for the second one.
        assert stderr == "loading\n"
    why = Reason(code="cancelled", message="by its caller")
    mini.job(1)
    eventually(lambda: len(rig.inside(mini)) > 1)
    mini.send(jobs.Cancel(call=1, attempt=1, reason=why))
    message, _ = mini.recv()
    if isinstance(message, jobs.Done):
        assert (message.outcome.status, message.outcome.reason) == (Status.CANCELLED, why)
    else:
        assert message == jobs.Returned(call=1, attempt=1)
    mini.stop()


def test_a_call_behind_one_that_is_killed_has_all_its_time(rig: Rig) -> None:
    source = "import time\ntime.sleep(0.4)\ndef main(s): time.sleep(s); return s\n"
    mini = handler(rig, "hello.main", {"hello.py": source})
    mini.job(1, b"[600]", 200)
    for call in (2, 3):
        mini.job(call, b"[0]", 300)
    assert mini.done()[0].status is Status.TIMEOUT
    # Loading again takes longer than they may run.
    assert [mini.done()[0].status for _ in range(2)] == [Status.DONE] * 2


@pytest.mark.parametrize(
    ("entry", "files", "value"),
    [
        ("hello.main", {"hello.py": "from .other import V\ndef main(): return V"}, 7),
        ("hello.main", {"hello.py": "from other import V\ndef main(): return V"}, 7),
        ("hello:main", {"hello.py": "def main(): return __name__"}, "function.hello"),
        ("a.b.main", {"a/b.py": "def main(): return __name__"}, "function.a.b"),
        ("function.main", {"function.py": "def main(): return __name__"}, "function"),
        (
            "hello.main",
            {"__init__.py": "W = 8", "hello.py": "from . import W\ndef main(): return W"},
            8,
        ),
    ],
)
def test_where_an_entry_is_found(
    rig: Rig, entry: str, files: dict[str, str], value: Any
) -> None:
    mini = handler(rig, entry, {"other.py": "V = 7", **files})
    assert json.loads(mini.call()[1]) == value


@ISOLATIONS
@pytest.mark.parametrize(
    ("entry", "source", "says", "log"),
    [
        ("hello.main", "import nothing_such", "No module named 'nothing_such'", "Traceback"),
        ("hello.main", "1 / 0", "hello.main: ZeroDivisionError: division by zero", "hello.py"),
        ("hello.main", "def f(:", "SyntaxError", "hello.py"),
        ("hello.main", "def other(): pass", "no function 'main'; it has other", ""),
        ("hello.main", "main = 3", "it has nothing that can be called", ""),
        ("missing.main", "", "No module named 'missing'", ""),
        ("main", "", "is not module.function", ""),
        ("hello.main", "import sys; sys.exit(3)", "SystemExit: 3", ""),
        ("hello.main", "import os; os._exit(3)", "ended while it was loaded", ""),
        ("hello.main", "import ctypes; ctypes.string_at(0)", "SIGSEGV", ""),
        ("hello.main", "print('x' * 10000000); 1 / 0", "ZeroDivisionError", "division by zero"),
        ("hello.main", "import os; os.closerange(3, 4096)", "while it was loaded", ""),
        (
            "hello.main",
            _GARBAGE,
            "it wrote to a descriptor of its agent",
            "",
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(
    rig: Rig, isolation: str, entry: str, source: str, says: str, log: str
) -> None:
    mini = rig.spawn()
    order = spec(entry=entry, isolation=isolation)
    broken = mini.specialise(order, rig.bundle({"hello.py": source}))
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert says in broken.reason.message
    assert log in broken.log
    assert rig.exit_of(mini.name).status == 0


@ISOLATIONS
def test_what_needs_more_memory_to_be_loaded_than_there_is_says_so(
    rig: Rig, isolation: str
) -> None:
    mini = rig.spawn()
    order = spec(entry="hello.main", isolation=isolation, memory=64)
    source = "x = bytearray(b'x') * (400 << 20)"
    broken = mini.specialise(order, rig.bundle({"hello.py": source}))
    assert isinstance(broken, jobs.Broken)
    assert broken.fault is Fault.FUNCTION
    found = (broken.reason.code, broken.reason.message.partition(";")[0])
    # Python is told that there is no more; in a container the kernel kills.
    assert found == (
        ("oom", "it reached its memory limit of 64 MiB while it was loaded")
        if rig.driver == "docker"
        else ("entry_not_found", "hello.main: MemoryError")
    )
    assert rig.exit_of(mini.name).status == 0


def test_an_entry_needs_an_agent_that_loads(rig: Rig) -> None:
    mini = rig.spawn()
    order = spec(entry="hello.main", runtime={"agent": "none"})
    broken = mini.specialise(order, rig.bundle({"hello.py": MODULE}))
    assert isinstance(broken, jobs.Broken)
    assert (broken.fault, broken.reason.code) == (Fault.FUNCTION, "entry_not_found")
    assert "'none'" in broken.reason.message
    assert '"agent": "python"' in broken.reason.message


@ISOLATIONS
def test_the_environment_of_a_call(rig: Rig, isolation: str) -> None:
    mini = handler(rig, "hello.environment", env={"MINE": "mine"}, isolation=isolation)
    for call in (1, 2):
        mini.job(call, b"{}", 9000)
        seen = json.loads(mini.done()[1])
        assert seen == {
            "SKEP_CALL": str(call),
            "SKEP_FUNCTION": "f",
            "SKEP_REVISION": "3",
            "SKEP_DEADLINE_MS": "9000",
            "MINE": "mine",
            "SKEP_PARAMS": "{}",
        }


@ISOLATIONS
def test_a_trace_is_of_its_own_call_alone(rig: Rig, isolation: str) -> None:
    """A call whose caller names no trace must not go on with that of the call before."""
    mini = handler(rig, "hello.traced", env={"TRACESTATE": "its own"}, isolation=isolation)
    for call, (parent, state) in enumerate((("a", ""), ("", ""), ("b", "x=1"), ("", "")), 1):
        job = jobs.Job(
            call=call, attempt=1, timeout_ms=9000, traceparent=parent, tracestate=state
        )
        mini.send(job, b"{}")
        assert json.loads(mini.done()[1]) == [parent or None, state or "its own", str(call)]


@ISOLATIONS
def test_params_are_on_stdin_too(rig: Rig, isolation: str) -> None:
    """Whatever the call before did to stdin, read half of it or closed it."""
    mini = handler(rig, "hello.from_stdin", isolation=isolation)
    sizes = (10, 70_000, 3, 9_000)
    deeds = ("nothing", "read a little", "close", "close the descriptor", "replace", "nothing")
    for deed in deeds:
        for size in sizes:
            params = {"deed": deed, "pad": "x" * size}
            read, child, told = json.loads(mini.call(json.dumps(params).encode())[1])
            assert (read, child, told) == (params, params, params)


def test_large_params_and_results(rig: Rig) -> None:
    mini = handler(rig, "hello.give")
    for size in (60_000, 70_000, 6_000_000):
        params = json.dumps(["x" * size]).encode()
        assert len(mini.call(params)[1]) == size + 2


def test_a_handler_comes_before_the_runtimes_run(rig: Rig) -> None:
    mini = rig.spawn()
    order = spec(entry="hello.main", runtime={"run": "no-such-program"})
    assert isinstance(mini.specialise(order, rig.bundle({"hello.py": MODULE})), jobs.Ready)
    assert mini.call()[0].status is Status.DONE


@ISOLATIONS
def test_a_host_killed_from_outside_is_followed_by_another(rig: Rig, isolation: str) -> None:
    source = "import subprocess\ndef main(s): return subprocess.call(['sleep', s])"
    mini = handler(rig, "hello.main", {"hello.py": source}, isolation=isolation)
    mini.job(1, b'["600"]')
    eventually(lambda: [p for p in rig.inside(mini) if argv(p)[0] == "sleep"])
    # The agent, the host, and what that began.
    below = [p for p in rig.inside(mini) if "python3" in argv(p)[0]]
    os.kill(sorted(below)[1], signal.SIGKILL)
    outcome = mini.done()[0]
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.FAILED, "signal")
    assert mini.call(b'["0"]')[0].status is Status.DONE
    mini.stop()


def test_what_its_agent_was_handed_and_has_not_begun_is_returned(rig: Rig) -> None:
    source = "import time\ndef main(s): time.sleep(s); return s\n"
    mini = handler(rig, "hello.main", {"hello.py": source})
    mini.job(1, b"[3]")
    while not isinstance(rig.recv(mini.route)[0], jobs.Heartbeat):
        pass
    for call in (2, 3, 4):
        mini.job(call, b"[0]")
    why = Reason(code="cancelled", message="by its caller")
    mini.send(jobs.Cancel(call=3, attempt=1, reason=why))
    returned = {mini.recv()[0].call for _ in range(3)}
    assert returned == {2, 3, 4}
    assert mini.done()[0].status is Status.DONE
    mini.stop()


def test_the_zygote_knows_what_of_all_that_was_handed_over_had_begun(rig: Rig) -> None:
    source = 'import time\ndef main(s): open("begun", "w"); time.sleep(s); return s\n'
    mini = handler(rig, "hello.main", {"hello.py": source})
    for call in range(1, 5):
        mini.job(call, b"[600]")
    # Its heartbeat says that all of them went on to the agent.
    while not isinstance(rig.recv(mini.route)[0], jobs.Heartbeat):
        pass
    os.kill(mini.pid, signal.SIGKILL)
    exited = rig.exit_of(mini.name)
    assert (exited.status, exited.handed) == (-signal.SIGKILL, 1)
