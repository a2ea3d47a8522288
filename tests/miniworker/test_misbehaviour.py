"""Whatever a function tries, in each mode: its call has its end, and no other call is hurt.

After each misdeed the same sandbox (or, where it had to be ended, the next one) runs a call
of the same function and another sandbox one of another function, both right; when all are
stopped, no process is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.miniworker.handlers import MODES, open_mode
from tests.miniworker.rig import Mini, Rig, spec
from wire import jobs
from wire.models import Status

DONE, FAILED, TIMEOUT, OOM = Status.DONE, Status.FAILED, Status.TIMEOUT, Status.OOM
IN_ONE, OF_ITS_OWN = ("handler", "fork"), ("script", "command")
#: Where the agent sees the exception itself.
FORKED = ("handler", "fork", "script")


@dataclass(frozen=True)
class Misdeed:
    """What is tried, and (status, code) by mode or for all."""

    code: str
    ends: Any
    #: A part of the reason's message, by mode or for all.
    says: dict[str, str] = field(default_factory=dict)
    timeout_ms: int = 15_000
    settings: dict[str, Any] = field(default_factory=dict)
    #: Modes in which its sandbox may be ended for it.
    costly: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES

    def end(self, mode: str) -> Any:
        return self.ends[mode] if isinstance(self.ends, dict) else self.ends


def by_mode(handlers: Any, programs: Any) -> dict[str, Any]:
    """Return one end for what the agent loads, another for what is a process of its own."""
    return {**dict.fromkeys(IN_ONE, handlers), **dict.fromkeys(OF_ITS_OWN, programs)}


HANG = "\nimport time\ntime.sleep(600)"
MISDEEDS = {
    "os._exit(0)": Misdeed(
        "import os\nos._exit(0)",
        by_mode((FAILED, "exit_code"), (DONE, None)),
        says=by_mode("exited with the code 0: a handler returns", ""),
    ),
    "os._exit(7)": Misdeed("import os\nos._exit(7)", (FAILED, "exit_code")),
    "sys.exit(0)": Misdeed(
        "import sys\nsys.exit(0)", by_mode((FAILED, "exit_code"), (DONE, None))
    ),
    "segfault": Misdeed(
        "import ctypes\nctypes.string_at(0)",
        (FAILED, "signal"),
        says=by_mode("SIGSEGV", "SIGSEGV"),
    ),
    "recursion": Misdeed(
        "def f(): return f()\nf()",
        {**by_mode((FAILED, "raised"), (FAILED, "raised")), "command": (FAILED, "exit_code")},
        says=dict.fromkeys(FORKED, "RecursionError"),
    ),
    "memory": Misdeed(
        "x = bytearray(400 << 20)",
        (OOM, "oom"),
        says=by_mode("256 MiB", "256 MiB"),
    ),
    "memory, bit by bit": Misdeed(
        "import itertools\nx = [bytearray(1 << 20) for _ in itertools.count()]",
        (OOM, "oom"),
        says=by_mode("64 MiB", "64 MiB"),
        settings={"memory": 64},
    ),
    "fork bomb": Misdeed(
        """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
        (TIMEOUT, "timeout"),
        timeout_ms=1000,
    ),
    "fork bomb that gives up": Misdeed(
        "import os\nwhile True: os.fork()",
        (FAILED, "raised"),
        modes=IN_ONE,
    ),
    "setsid": Misdeed(
        """
import os, time
for kind in range(4):
    if os.fork() == 0:
        os.setsid()
        if kind % 2 and os.fork():
            os._exit(0)
        time.sleep(600)
return "escaped"
""",
        (DONE, None),
    ),
    "setsid, and hang": Misdeed(
        "import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()" + HANG,
        (TIMEOUT, "timeout"),
        timeout_ms=500,
    ),
    "a full disk": Misdeed(
        """
import os
full = 0
for folder in (".", os.environ["TMPDIR"], "/dev/shm"):
    try:
        with open(os.path.join(folder, "fill"), "wb") as file:
            for _ in range(2000):
                file.write(bytes(1 << 20))
    except OSError as error:
        full += error.errno in (28, 27)
return full
""",
        (DONE, None),
    ),
    "10 MB result": Misdeed(
        "return 'x' * 10_000_000",
        (FAILED, "result_too_large"),
        says=by_mode("6291456", "6291456"),
    ),
    "closing every descriptor": Misdeed(
        "import os\nos.closerange(0, 4096)\nreturn 1",
        (FAILED, "exit_code"),
        says={"handler": "a descriptor"},
    ),
    "closing stdout and stderr": Misdeed(
        "import os, sys\nos.close(1)\nos.close(2)", (DONE, None)
    ),
    "garbage to every descriptor": Misdeed(
        """
import os
for fd in range(3, 1024):
    try:
        os.write(fd, b"\\xff" * 64)
    except OSError:
        pass
""",
        {**by_mode((DONE, None), (DONE, None)), "handler": (FAILED, "protocol_violation")},
        costly=("handler",),
    ),
    "a forged reply": Misdeed(
        """
import json, os, struct
head = json.dumps({"type": "result", "attempt": 1, "status": "DONE", "sizes": [6, 0, 0]})
for fd in range(3, 1024):
    try:
        os.write(fd, struct.pack(">II", len(head), 6) + head.encode() + b"forged")
    except OSError:
        pass
return "honest"
""",
        # In one process with the agent's code a function can forge its own result, no other.
        (DONE, None),
        costly=("handler",),
    ),
    "a reply to another attempt": Misdeed(
        """
import json, os, struct
head = json.dumps({"type": "result", "attempt": 77, "status": "DONE"})
for fd in range(3, 1024):
    try:
        os.write(fd, struct.pack(">II", len(head), 0) + head.encode())
    except OSError:
        pass
""",
        {**by_mode((DONE, None), (DONE, None)), "handler": (FAILED, "protocol_violation")},
        costly=("handler",),
    ),
    "the agent's socket": Misdeed(
        """
import os, socket
for place in ("/skep/sock/agent.sock", "../sock/agent.sock"):
    try:
        socket.socket(socket.AF_UNIX).connect(place)
        return "connected"
    except OSError:
        pass
return "none"
""",
        (DONE, None),
    ),
    "the agent's memory": Misdeed(
        """
import os
opened = []
for path in ("mem", "environ", "fd/0", "fd/3", "fd/4", "maps", "cwd/x"):
    for pid in (1, os.getppid()):
        if pid != os.getpid():
            try:
                open("/proc/%d/%s" % (pid, path), "rb+").close()
                opened.append(path)
            except OSError:
                pass
return opened
""",
        (DONE, None),
    ),
    "SIGSTOP": Misdeed(
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nreturn 1",
        (TIMEOUT, "timeout"),
        timeout_ms=500,
    ),
    "SIGKILL": Misdeed(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", (FAILED, "signal")
    ),
    "monkeypatches": Misdeed(
        """
import builtins, json, os, signal, socket, struct, sys, time
json.dumps = json.loads = json.JSONEncoder = json.JSONDecoder = None
json.encoder.JSONEncoder.encode = json.decoder.JSONDecoder.decode = None
os.write = os.read = os.dup2 = os.getpid = socket.socket = struct.pack = time.time = None
sys.stdout, sys.stderr, sys.stdin, sys.excepthook = None, None, None, None
""",
        (DONE, None),
    ),
    "streams that are none": Misdeed(
        "import os, sys\nsys.stdout = []\ndel sys.stderr\nos.environ = None",
        (DONE, None),
        modes=IN_ONE,
    ),
    "closing sys.stdout": Misdeed(
        "import sys\nsys.stdout.close()\nsys.stderr.close()", (DONE, None)
    ),
    "kill(-1)": Misdeed(
        """
import os, signal
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass
return 1
""",
        # A fork kills the process that it was forked from.
        {**by_mode((DONE, None), (DONE, None)), "fork": (FAILED, "signal")},
    ),
    "threads": Misdeed(
        """
import threading, time
try:
    while True:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
except (RuntimeError, MemoryError):
    return "enough"
""",
        (DONE, None),
    ),
    "replacing its files": Misdeed(
        """
import os, shutil
for name in os.listdir("."):
    os.remove(name)
for name in ("hello.py", "beside.txt"):
    os.makedirs(name + "/locked")
    os.chmod(name + "/locked", 0)
open("json.py", "w").write("1 / 0")
""",
        (DONE, None),
    ),
    "printing without end": Misdeed(
        "import os\nwhile True: os.write(1, b'x' * 4096)",
        (TIMEOUT, "timeout"),
        timeout_ms=500,
    ),
    "an ignored SIGTERM": Misdeed(
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except OSError: pass\nwhile True: pass",
        (TIMEOUT, "timeout"),
        timeout_ms=500,
    ),
}


@pytest.fixture(scope="module")
def own(strongest: dict[str, Any]) -> Iterator[Rig]:
    """A zygote for the strongest level that this host has."""
    with Rig(strongest["settings"]) as rig:
        yield rig


@pytest.fixture(scope="module")
def neighbour(own: Rig) -> Mini:
    """A sandbox of another function, which runs beside all misdeeds."""
    return open_mode(own, "handler", "return 1")


def is_fine(mini: Mini) -> None:
    outcome, result, _, stderr = mini.call(b'{"fine": true}')
    assert (outcome.status, result.strip(b'"')) == (DONE, b"fine"), (outcome, stderr)
    assert stderr == "fine\n"


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, one in MISDEEDS.items() for mode in one.modes]
)
def test_it_ends_as_it_must_and_hurts_nobody(
    own: Rig, neighbour: Mini, name: str, mode: str
) -> None:
    mini = open_mode(own, mode, MISDEEDS[name].code, **MISDEEDS[name].settings)
    try:
        check(own, neighbour, mini, mode, name)
    finally:
        own.end(mini)


def check(own: Rig, neighbour: Mini, mini: Mini, mode: str, name: str) -> None:
    misdeed = MISDEEDS[name]
    outcome, result, stdout, stderr = mini.call(timeout_ms=misdeed.timeout_ms)
    code = outcome.reason.code if outcome.reason else None
    assert (outcome.status, code) == misdeed.end(mode), (outcome, result[:200], stderr[-2000:])
    assert misdeed.says.get(mode, "") in (outcome.reason.message if outcome.reason else "")
    check_what_it_got(name, mode, result, len(stdout), outcome.omitted)
    is_fine(neighbour)
    if mode in misdeed.costly:
        assert isinstance(mini.recv()[0], jobs.Broken)
        return
    is_fine(mini)
    mini.send(jobs.Stop())


def check_what_it_got(name: str, mode: str, result: bytes, stdout: int, omitted: int) -> None:
    """Check what a misdeed that is let be found out, or left."""
    expected = {
        "the agent's memory": b"[]",
        "the agent's socket": b'"none"',
        "threads": b'"enough"',
        "setsid": b'"escaped"',
        "a forged reply": b"forged" if mode == "handler" else b'"honest"',
    }
    if name in expected:
        assert result == expected[name]
    if name == "a full disk":
        assert int(result) >= 2
    if name == "printing without end":
        assert stdout == 131072
        assert omitted > 0


def test_loading_again_that_takes_long_hands_back_what_waits(own: Rig) -> None:
    mini = own.spawn()
    files = {"hello.py": "import time\ntime.sleep(3.2)\nmain = time.sleep"}
    assert isinstance(mini.specialise(spec(entry="hello.main"), own.bundle(files)), jobs.Ready)
    mini.job(1, b"[600]", 200)
    mini.job(2, b"[0]", 300)
    assert mini.done()[0].status is TIMEOUT
    assert mini.recv()[0] == jobs.Returned(call=2, attempt=1)
    assert isinstance(mini.recv()[0], jobs.Broken)
    own.end(mini)
