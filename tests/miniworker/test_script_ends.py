"""A script that is forked begins and ends as one that an interpreter of its own runs."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest

from tests.conftest import eventually
from tests.miniworker.rig import Mini, Rig, freeze, is_zombie, spec
from wire import jobs
from wire.models import Status

BESIDE = """
class Told:
    def __del__(self): print("of the module beside")
told = Told()
left_open = open(1, "w", closefd=False)
left_open.write("left open beside, ")
"""

ENDS = {
    "left-open": """
f = open(1, "w", closefd=False)
f.write("left open")
""",
    "module": "import beside\nprint('in between')\n",
    "module-renewed": """
import sys, json
del sys.modules["json"]
import beside, json
print("in between")
""",
    "module-removed": """
import sys, re, beside
del sys.modules["re"]
print("in between")
""",
    "modules-exchanged": """
import sys, re, io
gone, renewed = sys.modules.pop("re"), sys.modules.pop("io")
import beside
sys.modules["io"] = renewed
print("in between")
""",
    "main-removed": "import sys, beside\ndel sys.modules['__main__']\n",
    "signals": """
import signal
print([one.name for one in signal.Signals if signal.getsignal(one) is not signal.SIG_DFL])
""",
    "finalizers": """
import atexit, weakref
class Told:
    def __init__(self, name): self.name = name
    def __del__(self): print("deleted", self.name)
class Held: pass
held, in_a_list = Told("global"), [Told("in a list")]
cycle = Told("in a cycle"); cycle.itself = cycle
_private = Told("private")
kept = Held(); weakref.finalize(kept, print, "finalized")
atexit.register(print, "registered first"); atexit.register(print, "registered last")
print("end")
""",
    "threads": """
import atexit, threading, time
def late():
    time.sleep(0.2)
    print("late")
atexit.register(print, "at exit")
threading.Thread(target=late).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
raise SystemExit("why")
""",
    "executor": """
from concurrent.futures import ThreadPoolExecutor
import time
ThreadPoolExecutor(2).submit(lambda: time.sleep(0.1) or print("done by then"))
""",
    "fork": """
import atexit, os
atexit.register(lambda: print("one of two", flush=True))
if os.fork():
    os.wait()
""",
    "processes": """
import multiprocessing
def work(x): return x * x
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(work, range(5)))
""",
    "wrapped": """
import io, sys
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8", write_through=False)
sys.stdout.write("by way of another")
""",
    "by-c": "import ctypes\nctypes.CDLL(None).printf(b'by C')\n",
    "raises-at-exit": """
import atexit
def fail(): raise ValueError("too late")
atexit.register(print, "still done"); atexit.register(fail)
""",
    "nowhere-to-write": "import os\nprint('x')\nos.close(1)\n",
    "raises": "def f():\n    raise KeyError('no')\nf()\n",
    "chain": "try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('b') from e\n",
    "syntax": "print('a'\n",
    "warning": "x = 1\nif x is 1:\n    print('is')\n",
    "null": "x = '\\0'\nprint(len(x), __name__, __file__, __doc__)\n",
    "exit-text": "import sys\nsys.exit('no')\n",
    "exit-minus": "raise SystemExit(-1)\n",
    "exit-256": "raise SystemExit(256)\n",
    "exit-true": "raise SystemExit(True)\n",
    "exit-in-main": "import sys\nprint('part')\nsys.exit(7)\n",
    "stdin": "import sys\nprint(sys.stdin.read(3), sys.stdin.readline(), sys.stdin.name)\n",
    "path": "import sys\nprint(sys.path[0], sys.argv, sys.flags.isolated, sys.orig_argv)\n",
}


def _ended(mini: Mini) -> tuple[Any, ...]:
    outcome, result, stdout, stderr = mini.call(b'{"a": 1}')
    # What raised is named by the agent of a script alone; its exit code is the same.
    said = outcome.reason.message if outcome.reason and outcome.reason.code != "raised" else ""
    said = said.replace("it exited with the code 1", "")
    # Without a view of its own a sandbox's folder has the name of its miniworker.
    texts = (text.replace(mini.name, "m") for text in (result.decode(), stdout, stderr))
    texts = (re.sub("0x[0-9a-f]+", "0x0", text) for text in texts)
    return outcome.status, *texts, said


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_as_an_interpreter_of_its_own_does(rig: Rig, name: str) -> None:
    bundle = rig.bundle({"test.py": ENDS[name], "beside.py": BESIDE})
    ended = []
    # What sh has to read is no plain command: nothing is forked for it.
    # The first fork and those after it, whose process waits for them, are not begun alike.
    for run, times in (("exec python3 test.py", 1), ("python3 test.py", 3)):
        mini = rig.spawn()
        assert isinstance(mini.specialise(spec(run=run), bundle), jobs.Ready)
        ended += [_ended(mini) for _ in range(times)]
    assert ended == [ended[0]] * 4


def test_each_call_is_its_own_though_its_process_was_there_before(rig: Rig) -> None:
    mini = rig.script(
        "import json, os, random, sys\n"
        "print(json.dumps([os.environ['SKEP_CALL'], os.environ['SKEP_PARAMS'],"
        " sys.stdin.read(), random.random(), os.getpid(), os.environ.get('LEFT')]))\n"
        "os.environ['LEFT'] = 'x'\n"
    )
    found = []
    for call in range(1, 5):
        params = f"{call}".encode() * call
        mini.job(call, params)
        outcome, result, *_ = mini.done()
        assert outcome.status is Status.DONE
        number, told, read, *own = json.loads(result)
        assert (number, told, read) == (str(call), params.decode(), params.decode())
        found.append(own)
    assert len({drawn for drawn, _, _ in found}) == len({pid for _, pid, _ in found}) == 4
    assert {left for _, _, left in found} == {None}


SEEN = """
import gc, os, signal, sys
print(sorted(vars()), sys.modules["__main__"].__dict__ is globals(), __file__, __annotations__)
print(sys.argv, sys.path[0], os.getcwd(), sys.exc_info(), sys.flags.dont_write_bytecode)
print([one for one in object.__subclasses__() if one.__module__ == "__main__"])
print(sorted({*os.environ} - {"PWD", "OLDPWD", "SHLVL", "_"}), len(gc.garbage), gc.isenabled())
for fd in sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:4]:
    print(fd, os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}")[:5])
for file in (sys.stdin, sys.stdout, sys.stderr):
    print(file.name, file.mode, file.encoding, file.errors, file.line_buffering, file.closed)
print(sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__, os.get_inheritable(1))
print([signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE)])
print(os.lseek(0, 0, os.SEEK_CUR), sys.stdin.read())
"""


def test_nothing_tells_what_was_rehearsed_before_a_call(rig: Rig) -> None:
    bundle = rig.bundle({"test.py": SEEN})
    seen = []
    for run, times in (("exec python3 test.py", 1), ("python3 test.py", 3)):
        mini = rig.spawn()
        assert isinstance(mini.specialise(spec(run=run), bundle), jobs.Ready)
        seen += [_ended(mini) for _ in range(times)]
    assert seen[0][0] is Status.DONE
    assert seen == [seen[0]] * 4


def test_a_fork_made_ahead_has_no_more_to_look_through_at_its_end(rig: Rig) -> None:
    """Whatever the collector looks at is copied: it was half of what such a call cost."""
    mini = rig.script("import gc\nprint(len(gc.get_objects()))\n")
    first, *others = (int(mini.call()[1]) for _ in range(3))
    assert max(others) <= first


@pytest.mark.parametrize("beside", [{}, {"beside.py": ""}])
def test_what_no_call_can_import_is_in_no_fork(rig: Rig, beside: dict[str, str]) -> None:
    source = "import sys\nprint('sub' + 'process' in sys.modules)\n"
    mini = rig.spawn()
    bundle = rig.bundle({"test.py": source, **beside})
    assert isinstance(mini.specialise(spec(run="python3 test.py"), bundle), jobs.Ready)
    said = [mini.call()[1] for _ in range(2)]
    assert said == [b"False\n", b"True\n" if beside else b"False\n"]


def test_a_file_that_is_not_there_is_told_each_time(rig: Rig) -> None:
    mini = rig.spawn()
    bundle = rig.bundle({"test.py": ""})
    ready = mini.specialise(spec(run="python3 none/none.py"), bundle)
    assert isinstance(ready, jobs.Ready)
    for _ in range(3):
        outcome, _, _, stderr = mini.call()
        assert outcome.status is Status.FAILED
        assert "can't open file" in stderr


def test_a_file_that_has_changed_is_read_again(rig: Rig) -> None:
    bundle = rig.bundle({"test.py": "print('old')\n"})
    mini = rig.spawn()
    assert isinstance(mini.specialise(spec(run="python3 test.py"), bundle), jobs.Ready)
    assert [mini.call()[1] for _ in range(2)] == [b"old\n"] * 2
    (bundle / "test.py").write_text("print('another')\n")
    # The process of the next call may have read it before.
    mini.call()
    assert mini.call()[1] == b"another\n"


def test_after_a_kill_the_next_is_right(rig: Rig) -> None:
    mini = rig.script("import sys, time\nif 'wait' in sys.stdin.read(): time.sleep(600)\n")
    for _ in range(2):
        assert mini.call()[0].status is Status.DONE
        assert mini.call(b"wait", timeout_ms=400)[0].status is Status.TIMEOUT
    assert mini.call()[0].status is Status.DONE


def test_a_waiting_process_that_dies_takes_no_call_with_it(rig: Rig) -> None:
    mini = rig.script("print(1)")
    assert mini.call()[0].status is Status.DONE
    first = min(rig.inside(mini))
    eventually(lambda: len(rig.inside(mini)) == 2)
    (waiting,) = rig.inside(mini) - {first}
    os.kill(waiting, signal.SIGKILL)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert rig.exit_of(mini.name).status == 0


def test_a_call_that_meets_a_dead_process_is_handed_back(rig: Rig) -> None:
    mini = rig.script("print(1)")
    assert mini.call()[0].status is Status.DONE
    first = min(rig.inside(mini))
    eventually(lambda: len(rig.inside(mini)) == 2)
    (waiting,) = rig.inside(mini) - {first}
    # Stopped, the first process finds the call and the end at the same moment.
    freeze(first)
    os.kill(waiting, signal.SIGKILL)
    eventually(lambda: is_zombie(waiting))
    mini.job(7)
    # It beats while a call is with its agent: before that, the end would come alone.
    assert isinstance(rig.recv(mini.route)[0], jobs.Heartbeat)
    os.kill(first, signal.SIGCONT)
    assert mini.recv()[0] == jobs.Returned(call=7, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    assert rig.exit_of(mini.name).status == 0
