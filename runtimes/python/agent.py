"""The agent of Python sandboxes: one file, the standard library only, Python 3.8 or later.

``python3 agent.py SOCKET`` is the first process of a sandbox. It connects twice to the
miniworker that listens there (docs/protocol.md, "Miniworker and agent"; ``-`` for SOCKET is
its stdin and stdout), forks what runs the function, and never runs any of its code itself::

    miniworker ══ control ══▶ first process      orders, kills, reaps, cleans up
        ║                      ├─ a call          script, command: one process for each
        ╚═════ data ══════════▶└─ host            handler: loads once, reads and answers calls
                                  └─ a call       isolation fork: one fork for each

* *script* (``PerCall`` with ``Script``): a fork of this preloaded interpreter becomes a true
  ``python3 test.py``;
* *command* (``PerCall`` with ``Command``): a fork becomes any other program, by exec;
* *handler* (``Keeper`` beside a ``Host``): ``entry`` names a function that the host loads. The
  host has the data connection, so that the first process is not on a call's way; what both
  must know stands in a page of memory that they share (``Page``).

When a call has been killed, or its process died, nothing of it is left but the first process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import io
import json
import mmap
import os
import re
import resource
import select
import signal
import socket
import struct
import sys
import time
import types
import weakref
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location

# What is imported here is on the way of every first call; typing alone takes as long as the
# interpreter itself needs to begin.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

PROTOCOL = 1
#: In the place of a socket's path: the connection is stdin and stdout.
BY_STDIO = "-"
READ_BYTES = 64 << 10
#: exec refuses an environment string of 128 KiB; above this the params go into a file.
PARAMS_IN_ENV_BYTES = 64 << 10
MESSAGE_CHARS = 2000
#: What a function that cannot be loaded printed, at most so much of its end.
BROKEN_LOG_BYTES = 16 << 10
#: Importing is bounded too, below the miniworker's own patience.
LOAD_S = 45.0
#: What prints is looked at after this: a call that still runs then is read from here.
LOOK_S = 0.01
LOOK_IDLE_S = 0.5
#: Of a call with a process of its own, which most often has ended by then.
LOOK_AT_CALL_S = 0.002
HAND_OVER_S = 0.5
#: Reading what a living process prints has an end, even if it prints on and on.
DRAIN_READS = 64
#: Where descriptors of the agent are: far from the numbers that programs use.
HIGH_FD = 200
#: How a host ends that cannot answer: out of memory, or it broke what it needs for that.
OOM_STATUS = 113
BROKEN_STATUS = 114
LENGTHS = struct.Struct(">II")
LENGTH = struct.Struct(">I")
HANDED_OVER = struct.Struct(">III")
NUMBER = struct.Struct("Q" if sys.byteorder == "little" else "<Q")
TWO_NUMBERS = struct.Struct("QQ" if sys.byteorder == "little" else "<QQ")
#: What scripts often import, and a first call need not wait for.
USUAL = ("collections.abc", "datetime", "random", "shutil", "subprocess", "typing")
#: What a fork that waits runs as if it were a script, and a variable that it has for a moment.
REHEARSAL = """
import sys
class Rehearsed: pass
def rehearse(rehearsed):
    try:
        raise ValueError(f"{rehearsed}")
    except ValueError as error:
        print(error, flush=True)
rehearse(Rehearsed())
print([], file=sys.stderr)
"""
REHEARSED = "SKEP_REHEARSED"
#: How long no call has to come before the next one is rehearsed.
REST_S = 0.005
#: What makes a command one for sh instead of a plain list of words.
SHELL = re.compile(r"[|&;<>()$`*?\[\]{}~#\n]|^(\w+=|(exec|cd|export|set|umask|ulimit)\b)")
#: What an interpreter reads at its start only: who sets one gets an interpreter of his own.
READ_AT_START = re.compile(r"PYTHON(?!PATH$|UNBUFFERED$)|LC_|LANG$|LANGUAGE$|TZDIR$")
PYTHON = re.compile(r"python(3(\.\d+)?)?\Z")
#: The last words of programs that were given no more memory: Python, sh and C, C++, Go.
STARVED = re.compile(rb"MemoryError|[Cc]annot allocate memory|std::bad_alloc|[Oo]ut of memory")
LAST_WORDS_BYTES = 2048

SET_DUMPABLE = 4
SET_CHILD_SUBREAPER = 36
#: From <malloc.h>; and how much of what is freed may stay with the process.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
KEPT_BYTES = 8 << 20

CO_COROUTINE = 0x80
#: What a forked call may say of its end.
CODES = ("", "raised", "exit_code", "result_too_large", "oom")
#: Whether this sandbox is a pid namespace of its own: then all others in it are ours.
ALONE = os.getpid() == 1

#: The sandbox's own folder for what is temporary, by the agent's environment: a function may
#: name another one in its own, and that is not the agent's to clear.
SCRATCH = os.environ.get("TMPDIR", "")
LIBC = ctypes.CDLL(None)
#: The C library's end of a process. No other thread runs while it is called.
_leave_process = ctypes.PyDLL(None).exit
#: What is no Python, and where the interpreter has what is its own of that.
LIBRARIES = tuple(EXTENSION_SUFFIXES)
OWN_LIBRARIES = os.path.dirname(getattr(sys.modules["_ctypes"], "__file__", None) or "/")
#: The path as an interpreter has it, without the folder of this file.
BASE_PATH = sys.path[1:]
#: What the host needs between calls, whatever a function puts in the place of these.
_read, _readv, _write, _pwrite, _lseek = os.read, os.readv, os.write, os.pwrite, os.lseek
_ftruncate, _dup2, _getpid, _exit = os.ftruncate, os.dup2, os.getpid, os._exit
_environ = os.environ
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
#: Five times as fast; what it writes without an escape, the other would write alike.
_encode_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder().decode
_clock_ns = time.perf_counter_ns


class Broken(Exception):
    """The sandbox cannot get ready: whose fault, a code of the interface, a sentence, a log."""

    def __init__(self, fault: str, code: str, message: str, log: bytes = b"") -> None:
        super().__init__(message)
        self.fault = fault
        self.code = code
        self.log = log


# --- what a call prints ---------------------------------------------------------------------


class Stream:
    """What a call prints to one descriptor: all of it up to a limit, then head and tail."""

    def __init__(self, fd: int, most: int, head: int, tail: int) -> None:
        self.fd = fd
        self.total = 0
        self.is_whole = True
        self.is_open = True
        self._most = most
        self._head_bytes = head
        self._tail_bytes = tail
        self._data = bytearray()
        self._tail = bytearray()

    def read(self) -> bool:
        """Read one chunk of what is there; return whether there may be more."""
        try:
            chunk = _read(self.fd, READ_BYTES)
        except BlockingIOError:
            return False
        self._feed(chunk)
        # A stream that the program closed would be readable for ever.
        self.is_open = bool(chunk)
        return self.is_open

    def _feed(self, chunk: bytes) -> None:
        self.total += len(chunk)
        if self.is_whole:
            self._data += chunk
            if len(self._data) > self._most:
                self.is_whole = False
                self._tail = self._data[self._head_bytes :]
                del self._data[self._head_bytes :]
        else:
            self._tail += chunk
        if len(self._tail) > self._tail_bytes + READ_BYTES:
            del self._tail[: -self._tail_bytes]

    def whole(self) -> bytes:
        """Return everything; only while ``is_whole``."""
        return bytes(self._data)

    def cut(self) -> bytes:
        """Return head and tail."""
        if self.is_whole and len(self._data) > self._head_bytes + self._tail_bytes:
            return bytes(self._data[: self._head_bytes] + self._data[-self._tail_bytes :])
        if self.is_whole:
            return bytes(self._data)
        return bytes(self._data + self._tail[-self._tail_bytes :])


class Printed:
    """The two streams of a call; of stdout up to ``most`` bytes are kept whole."""

    def __init__(self, out: int, err: int, limits: dict[str, int], most: int = 0) -> None:
        head, tail = limits["head"], limits["tail"]
        self.out = Stream(out, max(most, head + tail), head, tail)
        self.err = Stream(err, head + tail, head, tail)

    def read(self, fd: int) -> None:
        """Read a chunk from the one of the two that has this descriptor."""
        (self.out if fd == self.out.fd else self.err).read()

    def open(self) -> list[int]:
        """Return the descriptors from which more may come."""
        return [stream.fd for stream in (self.out, self.err) if stream.is_open]

    def drain(self) -> None:
        """Read what is in the pipes now."""
        for stream in (self.out, self.err):
            for _ in range(DRAIN_READS):
                if not stream.read():
                    break

    def logs(self) -> tuple[bytes, bytes, int]:
        """Return what is kept of both, and how much is left out."""
        out, err = self.out.cut(), self.err.cut()
        return out, err, self.out.total + self.err.total - len(out) - len(err)


class Page:
    """The mark, and behind it what the first process and a host tell each other.

    Eight bytes each, written at once: a process may be killed at any moment.
    """

    #: The last attempt begun: what the miniworker reads.
    MARK = 0
    #: The attempt whose code runs now; 0 while there is none.
    RUNNING = 8
    #: The attempt whose output the first process reads itself.
    WATCHED = 16
    #: An attempt that must not begin.
    SKIPPED = 24
    #: Up to which attempt none must begin any more: what the miniworker writes.
    REVOKED = 32
    #: Whether none must begin for the moment, for the host is about to be killed.
    HELD = 40
    SIZE = 4096
    #: As WATCHED: whichever is next.
    ANY = (1 << 64) - 1

    def __init__(self, fd: int) -> None:
        self.memory = mmap.mmap(fd, self.SIZE)

    def get(self, place: int) -> int:
        """Return one number."""
        number: int = NUMBER.unpack_from(self.memory, place)[0]
        return number

    def put(self, place: int, number: int) -> None:
        """Write one number."""
        NUMBER.pack_into(self.memory, place, number)

    def put_and_look(self, place: int, number: int, other: int) -> int:
        """Write one number, then return another.

        The host writes that one first and reads this one then, so one of the two sees what
        the other wrote. A processor may read before it has written; a system call in between
        keeps the order.
        """
        self.put(place, number)
        time.sleep(0)
        return self.get(other)

    def begin(self, attempt: int) -> None:
        """Say that this attempt begins, before any of its code runs."""
        TWO_NUMBERS.pack_into(self.memory, self.MARK, attempt, attempt)


# --- the first process ----------------------------------------------------------------------


class Sandbox:
    """What the first process has whatever the mode: connections, folders, everybody's end."""

    def __init__(self, path: str) -> None:
        #: Where both connections come in as one, if they do.
        self.line = Line() if path == BY_STDIO else None
        self.control = self.line.inlet if self.line else _connect(path)
        self.data = self.line.inlet if self.line else _connect(path)
        self.wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        #: Of the process that matters now: its pid, and how it ended once it has.
        self.awaited = 0
        self.ended: tuple[int, int] | None = None
        self.init: dict[str, Any] = {}
        #: In memory of nobody else until ``init`` brings the miniworker's.
        self.page = Page(-1)
        #: Its descriptor: a host that waited has to be given it.
        self.mark = -1
        #: What loading left in the folders, which a call finds again.
        self.kept: frozenset[str] = frozenset()
        #: A host that waits to hear what it is for, as this one does.
        self.ahead: Fork | None = None
        self._is_dressed = False

    @property
    def limits(self) -> dict[str, int]:
        """Return how much is kept: result, head, tail."""
        limits: dict[str, int] = self.init["limits"]
        return limits

    @property
    def env(self) -> dict[str, str]:
        """Return the environment that every call begins with."""
        env: dict[str, str] = self.init["env"]
        return env

    def meet(self) -> None:
        """Say hello, and prepare the work folder for what the miniworker says in return."""
        _prctl(SET_DUMPABLE, 0)
        _prctl(SET_CHILD_SUBREAPER, 1)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        hello = {"type": "hello", "protocol": PROTOCOL, "pid": os.getpid()}
        self.tell(dict(hello, mark=self.line is None, ahead=self.line is None))
        # What is to come may be long in coming: a generic sandbox does here what it can.
        gc.collect()
        if not (self.line or _has_come(self.control)):
            self._prepare()
        self.receive_init(self.control)
        if self.ahead is not None and not self.init["entry"]:
            # Its end takes a moment: meanwhile the code is put in place.
            _kill(self.ahead.pid)
        try:
            _lay_out(self.init["bundle"], self.init["path"])
            os.chdir(self.init["path"])
        except OSError as error:
            code = "no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "no_sandbox"
            raise Broken("node", code, f"the code cannot be put in place: {error}") from error

    def _prepare(self) -> None:
        """Do what no function is needed for: loading one waits for the rest alone."""
        # The first makes the types of all syntax trees: half of what loading takes.
        compile("", "<ahead>", "exec")
        gc.freeze()
        # Without one the host is forked when it is known what for.
        with contextlib.suppress(OSError):
            self.ahead = Fork(self)

    def receive_init(self, connection: int) -> None:
        """Read ``init``; the mark travels with its first byte, over a socket."""
        if self.line:
            self.init, _ = self.receive(connection)
            return
        with socket.socket(fileno=os.dup(connection)) as control:
            data, ancillary, _, _ = control.recvmsg(LENGTHS.size, socket.CMSG_SPACE(4))
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.mark = struct.unpack_from("i", packed)[0]
        header, _ = LENGTHS.unpack(data + self.exactly(connection, LENGTHS.size - len(data)))
        self.init = json.loads(self.exactly(connection, header))
        if self.mark >= 0:
            self.page = Page(self.mark)

    def take_ahead(self) -> Fork | None:
        """Return the host that waited, if it is there and knows now what it is for."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None and not ahead.hand(self.init, self.mark):
            ahead.end()
            return None
        return ahead

    def dismiss_ahead(self) -> None:
        """End the host that waited: no code may run beside it."""
        if self.ahead is not None:
            self.ahead.end()
            self.ahead = None

    # --- frames ---

    def tell(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame on *control*."""
        self._send(self.line.outlet if self.line else self.control, header, body)

    def answer(self, header: dict[str, Any], body: bytes) -> None:
        """Send a frame on *data*."""
        self._send(self.line.outlet if self.line else self.data, header, body)

    def _send(self, fd: int, header: dict[str, Any], body: bytes) -> None:
        packed = json.dumps(header).encode()
        try:
            _write_all(fd, LENGTHS.pack(len(packed), len(body)) + packed + body)
        except OSError:
            self.leave()

    def receive(self, fd: int) -> tuple[dict[str, Any], bytes]:
        """Return the next frame; the end of a connection is the end of everything."""
        header, body = LENGTHS.unpack(self.exactly(fd, LENGTHS.size))
        return json.loads(self.exactly(fd, header)), self.exactly(fd, body)

    def exactly(self, fd: int, size: int) -> bytes:
        """Return so many bytes of a connection."""
        try:
            return _read_all(fd, size)
        except (OSError, EOFError):
            self.leave()

    # --- processes ---

    def reap(self) -> None:
        """Reap all that has ended; the end of the awaited one is noted."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.awaited:
                self.ended = status, usage.ru_maxrss * 1024

    def clear(self) -> None:
        """End everything in the sandbox but this process, and reap it."""
        while _kill_the_others():
            self.reap()
            # What was killed needs the processor to end, and may have forked meanwhile.
            time.sleep(0.0005)
        self.reap()

    def leave(self) -> NoReturn:
        """The miniworker is gone, or this sandbox is of no more use: end with all the rest."""
        self.awaited = 0
        self.clear()
        if self.line:
            self.line.pass_on_answers()
        os._exit(0)

    @property
    def is_build(self) -> bool:
        """Return whether its one call builds the bundle, in place."""
        built: bool = self.init["bundle"] == self.init["path"]
        return built

    def tidy(self) -> None:
        """Undo what a call did to its folders; if that fails another sandbox goes on."""
        if self.is_build:
            # What it did is what it was for.
            return
        try:
            _lay_out(self.init["bundle"], self.init["path"], self.kept)
            for folder in self._scratch():
                _empty(folder, self.kept)
        except OSError as error:
            print(f"the folders cannot be tidied: {error}", file=sys.stderr)
            self.leave()

    def keep(self) -> None:
        """Note what there is now, so that tidying leaves it."""
        folders = [*self._scratch(), self.init["path"]]
        self.kept = frozenset(os.path.join(f, name) for f in folders for name in os.listdir(f))

    def _scratch(self) -> list[str]:
        folders = [SCRATCH] if SCRATCH else []
        # Shared memory is the sandbox's own where its processes are.
        return [*folders, "/dev/shm"] if ALONE and os.path.isdir("/dev/shm") else folders

    def become(self, kept: set[int]) -> None:
        """Turn a fork into a process of the function: nothing else of the agent stays open."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        _default(signal.SIGCHLD)
        low = 3
        for fd in sorted(kept):
            os.closerange(low, fd)
            low = max(low, fd + 1)
        os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        # A fork inherits this from its parent; a program must be able to read /proc/self.
        _prctl(SET_DUMPABLE, 1)
        self.dress()

    def dress(self) -> None:
        """Let the environment be what every call begins with: here, and in all forks."""
        if self.init and not self._is_dressed:
            self._is_dressed = True
            os.environ.clear()
            os.environ.update(self.env)


class Line:
    """Both connections over stdin and stdout: what comes in says by its type which it is of.

    A host cannot share them: it has a connection of its own to the first process, which
    passes on what it is told, and whole answers alone.
    """

    def __init__(self) -> None:
        self.inlet = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        self.outlet = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        # Whatever is printed here is a complaint.
        os.dup2(2, 1)
        keeper, host = socket.socketpair()
        keeper.setblocking(False)
        self.keeper, self.host = keeper.detach(), host.detach()
        #: What the host has to read yet, and what it has sent of an answer.
        self._to_host = b""
        self._answer = bytearray()

    @property
    def wanted(self) -> int:
        """Return what the keeper's end is to be polled for."""
        return select.POLLIN | (select.POLLOUT if self._to_host else 0)

    def hand(self, message: dict[str, Any], body: bytes) -> None:
        """Pass a call to the host."""
        packed = json.dumps(message).encode()
        self._to_host = LENGTHS.pack(len(packed), len(body)) + packed + body
        self._pass_to_host()

    def pass_on(self) -> None:
        """Pass on what there is, both ways."""
        self._pass_to_host()
        self.pass_on_answers()

    def _pass_to_host(self) -> None:
        """Never wait: the host may have ended while it read."""
        with contextlib.suppress(BlockingIOError):
            while self._to_host:
                self._to_host = self._to_host[_write(self.keeper, self._to_host) :]

    def pass_on_answers(self) -> None:
        """Pass on the answers of the host that are whole."""
        with contextlib.suppress(OSError):
            while piece := _read(self.keeper, READ_BYTES):
                self._answer += piece
                self._send_whole()

    def _send_whole(self) -> None:
        if len(self._answer) >= LENGTHS.size:
            size = LENGTHS.size + sum(LENGTHS.unpack_from(self._answer))
            if len(self._answer) >= size:
                _write_all(self.outlet, bytes(self._answer[:size]))
                del self._answer[:size]


class PerCall:
    """Script and command mode: each call is a process of its own, forked from this one.

    Once a call has ended by itself, the process of the next one is forked before that is there:
    what all calls need is done by then, and copied are the pages that it writes to. It waits
    only while no call runs, so that nothing of a function is ever beside it. What forks would
    each do alike is done once before that, here: most of what a fork costs are the pages that
    it writes to.
    """

    def __init__(self, sandbox: Sandbox, mode: Script | Command) -> None:
        self._sandbox = sandbox
        self._mode = mode
        self._next: Waiting | None = None
        self._call: Call | None = None
        self._is_furnished = False
        #: When what the call prints is read, if it has not ended by then.
        self._look_at = 0.0
        #: Attempts that were killed before they were read.
        self._skipped: set[int] = set()

    def get_ready(self) -> None:
        """Be ready for calls."""
        self._sandbox.tell({"type": "ready"})

    def turn(self) -> tuple[Script | Command, int] | None:
        """Wait for something to happen; returns what to run, in the process of a call."""
        for fd in self._readable():
            report = self._attend(fd)
            if report is not None:
                return self._mode, report
        if self._sandbox.ended is not None:
            status, peak_memory = self._sandbox.ended
            self._finish(status, peak_memory)
            report = None if self._sandbox.is_build else self._fork_ahead(status)
            if report is not None:
                return self._mode, report
        return None

    def _attend(self, fd: int) -> int | None:
        """Do what is to be done; returns something in the process of a call alone."""
        box = self._sandbox
        if fd in (box.control, box.data):
            message, body = box.receive(fd)
            if message["type"] == "call":
                return self._take(message, body)
            self._obey(message)
        elif fd == box.wake:
            os.read(fd, 4096)
            box.reap()
        elif self._call is not None:
            self._call.printed.read(fd)
        return None

    def _take(self, message: dict[str, Any], params: bytes) -> int | None:
        if message["attempt"] in self._skipped:
            self._skipped.remove(message["attempt"])
            return None
        self._sandbox.page.begin(message["attempt"])
        report = None if self._next else self._fork()
        if self._next:
            self._begin(message, params, self._next)
        return report

    def _readable(self) -> list[int]:
        poll, wait_ms = select.poll(), None
        fds = [self._sandbox.data]
        if self._call is not None:
            # Most end at once, and what they printed is read then, whole.
            wait_ms = (self._look_at - time.monotonic()) * 1000
            fds = self._call.printed.open() if wait_ms <= 0 else []
        for fd in (self._sandbox.control, self._sandbox.wake, *fds):
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(wait_ms if wait_ms and wait_ms > 0 else None)]

    def _fork_ahead(self, status: int) -> int | None:
        """Have a process that waits for the next call, which has most of what it may import."""
        # What a call died of, this one must not meet.
        if not (self._is_furnished or os.WIFSIGNALED(status)):
            self._is_furnished = True
            self._sandbox.dress()
            self._mode.furnish()
            # Or each fork would look through all of it at its end, and copy it for that.
            gc.collect()
            gc.freeze()
        return self._fork()

    def _fork(self) -> int | None:
        """Fork what will be a call; returns something there alone, once that has come."""
        box = self._sandbox
        params = _memory("params", b"")
        start, order = os.pipe()
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        report, child_report = os.pipe()
        box.ended = None
        try:
            pid = os.fork()
        except OSError as error:
            print(f"no process for a call: {error}", file=sys.stderr)
            # Nothing of it began, so that it may go elsewhere.
            box.page.begin(0)
            box.leave()
        if pid == 0:
            return self._become((params, child_out, child_err), child_report, start)
        for fd in (start, child_out, child_err, child_report):
            os.close(fd)
        for fd in (out, err, report):
            os.set_blocking(fd, False)
        box.awaited = pid
        self._next = Waiting(params, order, out, err, report)
        return None

    def _become(self, streams: tuple[int, int, int], report: int, start: int) -> int:
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        start = fcntl.fcntl(start, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        self._sandbox.become({report, start})
        self._sandbox.page.memory.close()
        self._mode.prepare()
        if isinstance(self._mode, Script) and not select.select([start], [], [], REST_S)[0]:
            # Not where calls follow each other at once: they would only wait for this.
            with contextlib.suppress(OSError):
                self._rehearse(self._mode)
        try:
            size = LENGTH.unpack(_read_all(start, LENGTH.size))[0]
            env = _decode(_read_all(start, size).decode())
        except EOFError:
            os._exit(0)
        os.close(start)
        os.environ.update(env)
        return report

    def _rehearse(self, script: Script) -> None:
        """Do once what a call will: it writes to the same pages, which are copied by then."""
        start, order = os.pipe()
        packed = json.dumps({REHEARSED: ""}).encode()
        _write_all(order, LENGTH.pack(len(packed)) + packed)
        os.close(order)
        size = LENGTH.unpack(_read_all(start, LENGTH.size))[0]
        os.environ.update(_decode(_read_all(start, size).decode()))
        os.close(start)
        del os.environ[REHEARSED]
        script.rehearse()

    def _begin(self, message: dict[str, Any], params: bytes, process: Waiting) -> None:
        box, attempt = self._sandbox, message["attempt"]
        told, params_file = self._hand_params(params, attempt)
        env = json.dumps(_env_of(message, told)).encode()
        try:
            process.start(params, env)
        except BrokenPipeError:
            # It has ended, so that nothing began: the call may go elsewhere.
            box.page.begin(0)
            box.leave()
        self._next = None
        self._look_at = time.monotonic() + LOOK_AT_CALL_S
        printed = Printed(process.out, process.err, box.limits, box.limits["result"])
        self._call = Call(attempt, printed, process.report, params_file)

    def _hand_params(self, params: bytes, attempt: int) -> tuple[dict[str, str], str]:
        if len(params) <= PARAMS_IN_ENV_BYTES:
            return _params_in_env(params), ""
        # Not to be guessed: an earlier call may have left files in the way.
        name = f"skep-params-{attempt}-{os.urandom(8).hex()}.json"
        path = os.path.join(SCRATCH or "/tmp", name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with open(fd, "wb") as file:
            file.write(params)
        return {"SKEP_PARAMS_FILE": path}, path

    def _obey(self, message: dict[str, Any]) -> None:
        """Kill the attempt that is named, and never its successor."""
        call, box, attempt = self._call, self._sandbox, message["attempt"]
        if attempt > box.page.get(Page.MARK):
            self._skipped.add(attempt)
            box.tell(*_exit_frame(attempt, (b"", b"", 0), began=False))
        if call is None or attempt != call.attempt:
            return
        box.clear()
        call.printed.drain()
        self._forget(call)
        box.tell(*_exit_frame(call.attempt, call.printed.logs()))
        box.tidy()

    def _finish(self, status: int, peak_memory: int) -> None:
        """Answer for a call whose process has ended; what it left behind is ended first."""
        call, box = self._call, self._sandbox
        if call is None:
            print("what was to be the next call has ended", file=sys.stderr)
            box.leave()
        box.clear()
        call.printed.drain()
        verdict = _verdict(call, status, box.limits["result"])
        self._forget(call)
        logs, result = call.printed.logs(), b""
        if not verdict[0]:
            # Where stdout is the result it is no log.
            result = call.printed.out.whole()
            logs = b"", logs[1], call.printed.err.total - len(logs[1])
        box.answer(*_result_frame(call.attempt, verdict, result, logs, peak_memory))
        box.tidy()

    def _forget(self, call: Call) -> None:
        self._call = None
        self._sandbox.awaited, self._sandbox.ended = 0, None
        call.close()


class Waiting:
    """A process that waits for its call, and this one's ends of what the two share."""

    def __init__(self, params: int, order: int, out: int, err: int, report: int) -> None:
        self.out, self.err, self.report = out, err, report
        self._params, self._order = params, order

    def start(self, params: bytes, env: bytes) -> None:
        """Let it be a call with these params and this environment, which is JSON.

        Raises:
            BrokenPipeError: it has ended.
        """
        try:
            _fill(self._params, params)
            _write_all(self._order, LENGTH.pack(len(env)) + env)
        finally:
            os.close(self._params)
            os.close(self._order)


class Call:
    """A call that runs in a process of its own, and what is read from it."""

    def __init__(self, attempt: int, printed: Printed, report: int, params_file: str) -> None:
        self.attempt = attempt
        self.printed = printed
        self.report = report
        self._params_file = params_file

    def close(self) -> None:
        """Forget the descriptors and the params' file."""
        for fd in (self.printed.out.fd, self.printed.err.fd, self.report):
            os.close(fd)
        if self._params_file and os.path.exists(self._params_file):
            os.unlink(self._params_file)


class Keeper:
    """Handler mode: the first process beside its host, which has the calls.

    It kills, and answers for a host that died; then it has the next one load. What a call
    prints is read by the host when the call ends; only of a call that prints and still runs
    a moment later does this process read it, so that no pipe is ever full and no memory is.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._errand = socket.socket()
        self._pipes = (-1, -1)
        self._printed = Printed(-1, -1, sandbox.limits)
        self._loads_until: float | None = None
        self._reads = False
        #: When to see whether what was printed is of a call that still runs.
        self._look_at: float | None = None
        self._patience = LOOK_S
        #: An attempt that is to end; and one that the host was told not to begin.
        self._doomed = self._skipped = 0

    def get_ready(self) -> None:
        """Have the function loaded; raise ``Broken`` if it cannot be."""
        self._start()
        while self._loads_until is not None:
            self._step()

    def turn(self) -> None:
        """Wait for something to happen; a host that cannot load again is the end."""
        try:
            self._step()
        except Broken as error:
            print(f"it cannot be loaded again: {error}", file=sys.stderr)
            self._sandbox.leave()

    def _step(self) -> None:
        box = self._sandbox
        for fd in self._readable():
            self._attend(fd)
        if box.ended is not None:
            self._bury(box.ended[0])
        elif self._loads_until is not None and time.monotonic() > self._loads_until:
            self._give_up(f"loading it took longer than {LOAD_S:g} s")
        if self._doomed:
            self._pursue(self._doomed)
        if self._look_at is not None and time.monotonic() >= self._look_at:
            self._look()

    def _attend(self, fd: int) -> None:
        box = self._sandbox
        if fd == box.control:
            self._order(*box.receive(fd))
        elif box.line and fd == box.line.keeper:
            box.line.pass_on()
        elif fd == box.wake:
            os.read(fd, 4096)
            box.reap()
        elif fd == self._errand.fileno():
            self._hear()
        elif self._reads:
            self._printed.read(fd)
        elif self._look_at is None:
            self._look_at = time.monotonic() + self._patience

    def _readable(self) -> list[int]:
        poll = select.poll()
        fds = [self._sandbox.control, self._sandbox.wake, self._errand.fileno()]
        fds += self._printed.open() if self._look_at is None else []
        for fd in fds:
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if self._sandbox.line:
            poll.register(self._sandbox.line.keeper, self._sandbox.line.wanted)
        times = [at for at in (self._look_at, self._loads_until) if at is not None]
        wait_s = min(times) - time.monotonic() if times else None
        if self._doomed:
            wait_s = 0.001
        return [
            fd for fd, _ in poll.poll(None if wait_s is None else max(0, wait_s * 1000) + 1)
        ]

    def _order(self, message: dict[str, Any], body: bytes) -> None:
        if self._sandbox.line and message["type"] == "call":
            self._sandbox.line.hand(message, body)
        else:
            self._doomed = message["attempt"]

    # --- a host's life ---

    def _start(self) -> None:
        box = self._sandbox
        box.page.put(Page.RUNNING, 0)
        box.page.put(Page.HELD, 0)
        # Before it loads, which one that waited does at once.
        box.page.put(Page.WATCHED, Page.ANY)
        box.ended = None
        try:
            host = box.take_ahead() or Fork(box)
        except OSError as error:
            raise Broken("node", "no_sandbox", f"no process for the host: {error}") from error
        box.awaited, self._errand, self._pipes = host.pid, host.errand, host.pipes
        self._read_all()
        self._loads_until = time.monotonic() + LOAD_S

    def _hear(self) -> None:
        """The host has loaded, or not, or wants what was read of its call."""
        try:
            said = self._errand.recv(READ_BYTES)
        except OSError:
            said = b""
        if not said:
            # It closed this, or has ended, which shows otherwise.
            self._errand.close()
        elif self._loads_until is None:
            self._hand_over()
        elif said[:1] == b"{":
            self._give_up(_message_of(said))
        else:
            self._loads_until = None
            self._printed.drain()
            if not (self._printed.out.total or self._printed.err.total):
                self._sandbox.page.put(Page.WATCHED, 0)
                self._reads = False
            self._sandbox.tell({"type": "ready"})
            if said[-1:] == b"?":
                # A call that was there already has ended, too.
                self._hand_over()

    def _give_up(self, message: str) -> None:
        self._sandbox.clear()
        out, err, _ = self._last_words()
        log = (out + err)[-BROKEN_LOG_BYTES:]
        raise Broken("function", "entry_not_found", message, log)

    def _bury(self, status: int) -> None:
        """The host has ended by itself, and took the call that ran with it."""
        box, attempt = self._sandbox, self._sandbox.page.get(Page.RUNNING)
        verdict = _host_verdict(status)
        if self._loads_until is not None:
            self._give_up(f"its process ended while it was loaded: {verdict[1]}")
        if not attempt:
            # It may have read half a call, or sent half a result.
            box.leave()
        box.clear()
        peak_memory = box.ended[1] if box.ended else 0
        frame = _result_frame(attempt, verdict, b"", self._last_words(), peak_memory)
        box.answer(dict(frame[0], ready=False), frame[1])
        self._again()

    def _pursue(self, attempt: int) -> None:
        """End an attempt wherever it is at this moment, and never its successor."""
        page = self._sandbox.page
        if page.get(Page.RUNNING) == attempt:
            self._kill(attempt)
        elif page.get(Page.MARK) < attempt:
            self._skip(attempt)
        elif self._skipped == attempt and not page.get(Page.SKIPPED):
            self._has_skipped(attempt)
        else:
            # It has answered: that was first, and counts.
            if page.get(Page.SKIPPED) == attempt:
                page.put(Page.SKIPPED, 0)
            self._doomed = 0

    def _skip(self, attempt: int) -> None:
        """Have the host not begin what it has not read; the mark may be there first."""
        page = self._sandbox.page
        if page.get(Page.SKIPPED) not in (0, attempt):
            self._sandbox.leave()
        self._skipped = attempt
        if page.put_and_look(Page.SKIPPED, attempt, Page.MARK) < attempt:
            self._has_skipped(attempt)

    def _has_skipped(self, attempt: int) -> None:
        self._doomed = 0
        self._sandbox.tell(*_exit_frame(attempt, (b"", b"", 0), began=False))

    def _kill(self, attempt: int) -> None:
        box = self._sandbox
        # It may end at this moment: then the next one shall not begin.
        if box.page.put_and_look(Page.HELD, 1, Page.RUNNING) != attempt:
            box.page.put(Page.HELD, 0)
            return
        box.clear()
        if box.page.get(Page.RUNNING) != attempt:
            # Its answer crossed this, and half of it may be sent.
            box.leave()
        header, body = _exit_frame(attempt, self._last_words())
        box.tell(dict(header, ready=False), body)
        self._again()

    def _again(self) -> None:
        """Have a new host load the function: nothing of the old one is left in it."""
        self._doomed = 0
        self._sandbox.tidy()
        self._start()

    def _last_words(self) -> tuple[bytes, bytes, int]:
        """Return what a host printed that has ended, and forget it."""
        self._printed.drain()
        logs = self._printed.logs()
        self._errand.close()
        for fd in self._pipes:
            os.close(fd)
        self._pipes, self._printed = (-1, -1), Printed(-1, -1, self._sandbox.limits)
        self._sandbox.awaited = 0
        return logs

    # --- what it prints ---

    def _read_all(self, attempt: int = Page.ANY) -> None:
        """Read what is printed until the host asks for it."""
        self._sandbox.page.put(Page.WATCHED, attempt)
        self._printed = Printed(*self._pipes, self._sandbox.limits)
        self._look_at, self._patience, self._reads = None, LOOK_S, True

    def _look(self) -> None:
        """Something was printed: read on if the call that runs does not end soon."""
        page = self._sandbox.page
        self._look_at = None
        attempt = page.get(Page.RUNNING)
        if attempt:
            if page.put_and_look(Page.WATCHED, attempt, Page.RUNNING) == attempt:
                self._read_all(attempt)
            else:
                page.put(Page.WATCHED, 0)
            return
        # Printed between calls: it waits in the pipe for the next one.
        pending = select.select(self._pipes, [], [], 0)[0]
        self._patience = min(2 * self._patience, LOOK_IDLE_S) if pending else LOOK_S

    def _hand_over(self) -> None:
        """Give the host what was read of its call."""
        page = self._sandbox.page
        self._printed.drain()
        out, err, omitted = self._printed.logs()
        self._printed = Printed(*self._pipes, self._sandbox.limits)
        self._reads = False
        page.put(Page.WATCHED, 0)
        packed = HANDED_OVER.pack(len(out), len(err), min(omitted, 0xFFFFFFFF))
        try:
            self._errand.sendall(packed + out + err)
        except OSError:
            # It does not listen to what it asked for: it cannot go on.
            self._sandbox.clear()


# --- the host -------------------------------------------------------------------------------


class Fork:
    """The process of a host, and this one's ends of what the two share.

    A host is forked when it is known what it is for; in a generic sandbox before that, so that
    forking, and what each fork does first, is over when a function comes.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        """Raise ``OSError`` where no process is to be had."""
        self.errand, theirs = socket.socketpair()
        self.errand.settimeout(HAND_OVER_S)
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        for fd in (out, err):
            os.set_blocking(fd, False)
        self.pipes = out, err
        self.pid = os.fork()
        if self.pid == 0:
            Host(sandbox, theirs.detach(), (out, err, child_out, child_err)).run()
        for fd in (child_out, child_err, theirs.detach()):
            os.close(fd)

    def hand(self, init: dict[str, Any], mark: int) -> bool:
        """Say what it is for; return whether it can hear that."""
        packed = json.dumps(init).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", mark))]
        try:
            self.errand.sendmsg([LENGTHS.pack(len(packed), 0)], rights if mark >= 0 else [])
            self.errand.sendall(packed)
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it, before it was told anything, and forget it."""
        _kill(self.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.errand.close()
        for fd in self.pipes:
            os.close(fd)


class Input:
    """The params of a host's calls where programs look for them: on stdin.

    One file in memory is written anew for each call; what a call does to descriptor 0 or to
    ``sys.stdin`` ends with it.
    """

    def __init__(self) -> None:
        memory = os.memfd_create("params", os.MFD_CLOEXEC)
        reader = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
        self._memory = fcntl.fcntl(memory, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        self._reader = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        os.close(memory)
        os.close(reader)
        self._file: Any = None

    def hand(self, params: bytes) -> None:
        """Let stdin hold these params, from their beginning on."""
        # Written before it is cut: pages that are there already cost less than new ones.
        _pwrite(self._memory, params, 0)
        _ftruncate(self._memory, len(params))
        _lseek(self._reader, 0, 0)
        _dup2(self._reader, 0)
        try:
            # The first forgets what the buffer holds: the second alone would believe it.
            self._file.buffer.seek(0, 2)
            self._file.seek(0)
        except Exception:
            self._file = _text(0, "r", "utf-8", "strict")
        sys.stdin = self._file


class Host:
    """The process that loaded a function: it reads calls, runs and answers them.

    What is between two calls is short, for each of them waits for it; and it takes nothing
    from a module that the function may have changed.
    """

    def __init__(self, sandbox: Sandbox, errand: int, streams: tuple[int, ...]) -> None:
        self._sandbox = sandbox
        fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in streams]
        self._out, self._err, self._stdout, self._stderr = fds
        data = sandbox.line.host if sandbox.line else sandbox.data
        self._data = fcntl.fcntl(data, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        self._errand = fcntl.fcntl(errand, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        self._poll = select.poll()
        #: What sys.stdout and sys.stderr are when a call begins.
        self._files: tuple[Any, Any] = (None, None)
        #: The names that the last call found in the environment beside what all find there.
        self._given: set[str] = set()

    def run(self) -> NoReturn:
        """Load, say so, and serve until the end of the connection."""
        status = BROKEN_STATUS
        try:
            _keep_freed_memory()
            self._sandbox.become(
                {self._out, self._err, self._stdout, self._stderr, self._data, self._errand}
            )
            self._standard_streams()
            if not self._sandbox.init:
                self._await_init()
            init = self._sandbox.init
            self._handler = Handler(init["entry"], init["isolation"])
            self._load()
            self._serve(Input())
            status = 0
        except MemoryError:
            status = OOM_STATUS
        except BaseException as error:
            _print_exception(error)
        finally:
            _exit(status)

    def _await_init(self) -> None:
        """Wait, in a generic sandbox, for what this is for."""
        box = self._sandbox
        box.receive_init(self._errand)
        # The mark's, and the one that a map has of its own: no function finds either.
        os.closerange(3, HIGH_FD)
        os.chdir(box.init["path"])
        box.dress()

    def _standard_streams(self) -> None:
        stdin = os.open(os.devnull, os.O_RDONLY)
        _dup2(stdin, 0)
        os.close(stdin)
        self._restore()
        _use_streams(*_standard_streams("utf-8", "strict", line=True))
        for fd in (self._out, self._err):
            self._poll.register(fd, select.POLLIN)

    def _restore(self) -> None:
        _dup2(self._stdout, 1)
        _dup2(self._stderr, 2)

    def _flush(self) -> None:
        """Let out what was printed; what a call did to the streams ends with it."""
        for name in ("stdout", "stderr"):
            with contextlib.suppress(Exception):
                getattr(sys, name).flush()
        try:
            self._files[0].flush()
            self._files[1].flush()
        except Exception:
            _use_streams(*_standard_streams("utf-8", "strict", line=True))
            self._files = sys.stdout, sys.stderr

    def _load(self) -> None:
        try:
            self._handler.load(self._sandbox.env)
        except BaseException as error:
            _print_exception(error)
            message = {"message": f"{self._handler.entry}: {_text_of(error)}"}
            _write(self._errand, json.dumps(message).encode())
            _exit(0)
        self._files = sys.stdout, sys.stderr
        if self._handler.forks:
            # Or a call could write into the memory that the next one begins with.
            _prctl(SET_DUMPABLE, 0)
            _prctl(SET_CHILD_SUBREAPER, 1)
            self._sandbox.keep()
        gc.collect()
        gc.freeze()
        _write(self._errand, b"ready")

    def _serve(self, stdin: Input) -> None:
        answer = self._in_a_fork if self._handler.forks else self._here
        while True:
            # No byte more than this call: what follows is another's, and may go elsewhere.
            try:
                header, size = LENGTHS.unpack(_read_all(self._data, LENGTHS.size))
                packed, params = _read_two(self._data, header, size)
            except EOFError:
                return
            message = _decode(packed.decode())
            if self._begins(message["attempt"], params, stdin):
                answer(message, params)

    def _begins(self, attempt: int, params: bytes, stdin: Input) -> bool:
        """Begin a call, unless it must not begin any more."""
        page = self._sandbox.page
        while page.get(Page.HELD):
            time.sleep(0.001)
        if attempt <= page.get(Page.REVOKED):
            # Whoever took it back sees by the mark that it has not begun.
            if page.get(Page.SKIPPED) == attempt:
                page.put(Page.SKIPPED, 0)
            return False
        page.begin(attempt)
        # Its system calls keep the order of the mark and what is looked at now.
        stdin.hand(params)
        is_skipped = page.get(Page.SKIPPED) == attempt
        if is_skipped:
            page.put(Page.SKIPPED, 0)
        elif attempt <= page.get(Page.REVOKED):
            # Whoever took it back may have seen it begin already.
            self._write(*_exit_frame(attempt, (b"", b"", 0), began=False))
        else:
            return True
        page.put(Page.RUNNING, 0)
        return False

    def _write(self, header: dict[str, Any], body: bytes) -> None:
        packed = json.dumps(header).encode()
        _write_both(self._data, LENGTHS.pack(len(packed), len(body)) + packed, body)

    def _here(self, message: dict[str, Any], params: bytes) -> None:
        self._give(_env_of(message, _params_in_env(params)))
        sys.stdout, sys.stderr = self._files
        began = _clock_ns()
        result, verdict = self._handler.call(params, self._sandbox.limits["result"])
        ran_us = (_clock_ns() - began) // 1000
        if verdict[0] == "oom":
            # The next call shall not begin with what filled the memory.
            _exit(OOM_STATUS)
        self._flush()
        self._restore()
        self._answer(message["attempt"], result, verdict, _peak_memory(), ran_us)

    def _give(self, env: dict[str, str]) -> None:
        """Set the environment of a call; nothing is left there of the one before it."""
        for name in self._given - env.keys():
            _environ.pop(name, None)
            if name in self._sandbox.env:
                _environ[name] = self._sandbox.env[name]
        _environ.update(env)
        self._given = set(env)

    def _in_a_fork(self, message: dict[str, Any], params: bytes) -> None:
        began = _clock_ns()
        report = _memory("report", b"")
        pid = os.fork()
        if pid == 0:
            self._be_fork(message, params, report)
        _, status, usage = os.wait4(pid, 0)
        while _kill_the_others():
            _reap_all()
            time.sleep(0.0005)
        result, verdict = _read_report(report, status, self._sandbox.limits["result"])
        os.close(report)
        ran_us = (_clock_ns() - began) // 1000
        self._answer(message["attempt"], result, verdict, usage.ru_maxrss * 1024, ran_us)
        self._sandbox.tidy()

    def _be_fork(self, message: dict[str, Any], params: bytes, report: int) -> NoReturn:
        status = 1
        try:
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            self._sandbox.become({report})
            self._sandbox.page.memory.close()
            os.environ.update(_env_of(message, _params_in_env(params)))
            result, verdict = self._handler.call(params, self._sandbox.limits["result"])
            self._flush()
            packed = json.dumps(verdict).encode()
            # Whatever the function may have written there.
            _ftruncate(report, 0)
            _lseek(report, 0, 0)
            _write_all(report, LENGTHS.pack(len(packed), len(result)) + packed + result)
            status = 0
        except MemoryError:
            status = OOM_STATUS
        finally:
            _exit(status)

    def _answer(
        self,
        attempt: int,
        result: bytes,
        verdict: tuple[str, str],
        peak_memory: int,
        ran_us: int,
    ) -> None:
        self._sandbox.page.put(Page.RUNNING, 0)
        logs = self._printed(attempt)
        if verdict[0]:
            self._write(*_result_frame(attempt, verdict, result, logs, peak_memory))
            return
        out, err, omitted = logs
        sizes = len(result), len(out), len(err), omitted
        packed = DONE % (attempt, *sizes, peak_memory, ran_us)
        body = result + out + err
        _write_both(self._data, LENGTHS.pack(len(packed), len(body)) + packed, body)

    def _printed(self, attempt: int) -> tuple[bytes, bytes, int]:
        """Return what the call printed; nearly always that is nothing."""
        ready = self._poll.poll(0)
        if self._sandbox.page.get(Page.WATCHED) in (attempt, Page.ANY):
            return self._ask()
        if not ready:
            return b"", b"", 0
        printed = Printed(self._out, self._err, self._sandbox.limits)
        printed.drain()
        return printed.logs()

    def _ask(self) -> tuple[bytes, bytes, int]:
        """Have the first process give what it read of this call."""
        _write(self._errand, b"?")
        packed = _read_all(self._errand, HANDED_OVER.size)
        out, err, omitted = HANDED_OVER.unpack(packed)
        return _read_all(self._errand, out), _read_all(self._errand, err), omitted


class Handler:
    """The function that ``entry`` names, once it is loaded."""

    def __init__(self, entry: str, isolation: str) -> None:
        self.entry = entry
        self.forks = isolation == "fork"
        self._module, _, self._name = entry.replace(":", ".").rpartition(".")
        self._function: Callable[..., Any] = print
        self._loop: Any = None

    def check(self) -> None:
        """Refuse what can never be loaded."""
        if not (self._module and self._name):
            text = f"entry {self.entry!r} is not module.function, such as hello.main"
            raise Broken("function", "entry_not_found", text)

    def load(self, env: dict[str, str]) -> None:
        """Import the module, as part of the package ``function`` or else by itself."""
        _find_here(_sys_path(os.getcwd(), env), os.getcwd())
        main = types.ModuleType("__main__")
        sys.modules["__main__"], sys.argv = main, [self.entry]
        # The function gets a json of its own to change: this one answers for it.
        for name in [n for n in sys.modules if n.partition(".")[0] == "json"]:
            del sys.modules[name]
        self._function = self._find(self._import())
        if _is_async(self._function):
            importlib.import_module("asyncio")

    def _find(self, module: types.ModuleType) -> Callable[..., Any]:
        found: Callable[..., Any] | None = getattr(module, self._name, None)
        if callable(found):
            return found
        names = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        has = ", ".join(sorted(names)[:10]) or "nothing that can be called"
        text = f"the module {module.__name__} has no function {self._name!r}; it has {has}"
        raise LookupError(text)

    def _import(self) -> types.ModuleType:
        packaged = f"function.{self._module}"
        try:
            return importlib.import_module(packaged)
        except ModuleNotFoundError as error:
            # Only its own absence: what it imports itself must be there.
            if not f"{packaged}.".startswith(f"{error.name}."):
                raise
        return importlib.import_module(self._module)

    def call(self, params: bytes, limit: int) -> tuple[bytes, tuple[str, str]]:
        """Run it; return its value as JSON, or a code and a sentence."""
        try:
            result = _as_json(self._value(_decode(params.decode())))
        except MemoryError as error:
            _print_exception(error)
            return b"", ("oom", _memory_text())
        except SystemExit as error:
            text = f"it called sys.exit({error.code!r}): a handler returns its result"
            return b"", ("exit_code", text[:MESSAGE_CHARS])
        except NotJson as error:
            print(error, file=sys.stderr)
            return b"", ("raised", str(error)[:MESSAGE_CHARS])
        except BaseException as error:
            _print_exception(error)
            return b"", ("raised", _text_of(error))
        if len(result) > limit:
            text = f"its result has {len(result)} bytes; one may have {limit}"
            return b"", ("result_too_large", text)
        return result, ("", "")

    def _value(self, params: Any) -> Any:
        pid, kind = _getpid(), type(params)
        try:
            if kind is dict:
                value = self._function(**params)
            elif kind is list:
                value = self._function(*params)
            else:
                value = self._function(params)
            return self._await(value) if hasattr(type(value), "__await__") else value
        finally:
            if _getpid() != pid:
                # A fork that the function made and did not end: it shall not answer too.
                _exit(0)

    def _await(self, value: Any) -> Any:
        """Run what an async function returned, on the one loop of this process."""
        asyncio = importlib.import_module("asyncio")
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

        async def awaited() -> Any:
            return await value

        return self._loop.run_until_complete(awaited())


DONE = (
    b'{"type":"result","attempt":%d,"status":"DONE","sizes":[%d,%d,%d],"omitted":%d,'
    b'"resultType":"json","peakMemory":%d,"ranUs":%d}'
)


def _is_async(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & CO_COROUTINE)


def _as_json(value: Any) -> bytes:
    try:
        ascii_text = _encode_ascii(value)
        # One sign is looked for far faster than two.
        has_escapes = "\\" in ascii_text and "\\u" in ascii_text
        text = _encode(value) if has_escapes else ascii_text
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(value).__name__
        raise NotJson(f"it returned a {kind} that cannot be JSON: {error}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a pair of surrogates: JSON can say it, UTF-8 cannot.
        return ascii_text.encode()


class NotJson(TypeError):
    """A handler's value is none that JSON has."""


def _read_report(fd: int, status: int, limit: int) -> tuple[bytes, tuple[str, str]]:
    """Return what a forked call reported; nothing in there can be trusted."""
    if status != 0:
        return b"", _host_verdict(status)
    data = os.pread(fd, LENGTHS.size + READ_BYTES + limit, 0)
    try:
        header, size = LENGTHS.unpack_from(data)
        code, message = json.loads(data[LENGTHS.size : LENGTHS.size + header])
    except (ValueError, TypeError, struct.error):
        return b"", _host_verdict(0)
    result = data[LENGTHS.size + header :]
    if len(result) != size or size > limit or code not in CODES:
        return b"", _host_verdict(0)
    return result, (code, str(message)[:MESSAGE_CHARS])


# --- script and command ---------------------------------------------------------------------


class Script:
    """``python3 FILE ARGS`` in a fork of this interpreter."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._executable, *rest = argv
        self._unbuffered = bool(env.get("PYTHONUNBUFFERED"))
        if rest[0] == "-u":
            self._unbuffered = True
            rest = rest[1:]
        self._argv = rest
        self._command = argv
        self._streams: tuple[Any, Any, Any] | None = None
        self._agents: tuple[Any, Any, Any] | None = None
        self._start: Start | None = None
        #: The modules that are this file's, and no script's.
        self._own: Modules | None = None

    def furnish(self) -> None:
        """Make once what each fork would make alike; what only that can make, it will."""
        start = Start(self._argv[0], only_quietly=True)
        for name in USUAL:
            # What none of its calls imports would only make each fork larger.
            if start.may_import(name):
                importlib.import_module(name)
        with _streams_of_a_call():
            self._streams = self._open()
        # A fork does not have to take apart what it does not use.
        self._agents = sys.stdin, sys.stdout, sys.stderr
        self._own = Modules()
        if start.refused is None:
            self._start = start

    def prepare(self) -> None:
        """Do what that interpreter does before it runs the file, in the fork of a call."""
        _use_streams(*(self._streams or self._open()))
        self._own = self._own or Modules()
        if self._start is None or not self._start.is_still_so():
            self._start = Start(self._argv[0])
        self._be_main(self._start)

    def rehearse(self) -> None:
        """Run a script of no effect to its end, in the fork of a call that is not there yet."""
        if self._own is None or self._start is None or self._start.refused is not None:
            return
        try:
            with _silence():
                exec(REHEARSAL, sys.modules["__main__"].__dict__)
                _is_known_to_end(self._own)
                _destroy_modules(self._own)
                for file in (sys.stdout, sys.stderr):
                    _flush(file)
        finally:
            sys.modules["__main__"] = _main_module(self._start)

    def _open(self) -> tuple[Any, Any, Any]:
        errors = sys.stdout.errors or "strict"
        return _standard_streams(sys.stdout.encoding, errors, through=self._unbuffered)

    def run(self, report: int) -> NoReturn:
        """Be that interpreter, to its end."""
        pid = os.getpid()
        status: Any = 0
        try:
            self._execute()
        except SystemExit as error:
            status = error.code
        except BaseException as error:
            kind = "oom" if isinstance(error, MemoryError) else "raised"
            if os.getpid() == pid:
                _report(report, kind, _text_of(error))
            _print_exception(error)
            status = 1
        _end(status, self._own or Modules())

    def _execute(self) -> None:
        start = self._start or Start(self._argv[0])
        if isinstance(start.refused, OSError):
            line = "%s: can't open file %r: [Errno %d] %s"
            words = (self._executable, start.path, start.refused.errno, start.refused.strerror)
            print(line % words, file=sys.stderr)
            raise SystemExit(2)
        if start.refused is not None:
            raise start.refused
        exec(start.code, sys.modules["__main__"].__dict__)

    def _be_main(self, start: Start) -> None:
        sys.argv = list(self._argv)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = list(self._command)
        _find_here(start.sys_path, start.folder)
        # Held by nobody else, so that it ends when an interpreter's would.
        sys.modules["__main__"] = _main_module(start)


class Modules:
    """Those that were there before a script, but for ``__main__``."""

    def __init__(self) -> None:
        names = [name for name in sys.modules if name != "__main__"]
        self._names, self._last = frozenset(names), names[-1]

    def came_since(self) -> list[str]:
        """Return the names of those that are a script's, in the order in which they came.

        They stand behind the others. Only these are looked at, for to look at a name is to
        count it, and to copy the page that it is in.
        """
        came = []
        for name in reversed(sys.modules):
            if name in self._names:
                break
            came.append(name)
        # It stands where it stood at the start, or where it was put after a rehearsal.
        if "__main__" not in came:
            came.append("__main__")
        if name == self._last and len(sys.modules) == len(self._names) + len(came):
            return came[::-1]
        # Some of those there were are gone, or came anew.
        return [name for name in sys.modules if name not in self._names]


class Start:
    """Where an interpreter that begins to run a file finds what, and the code of the file."""

    def __init__(self, file: str, *, only_quietly: bool = False) -> None:
        self._file = file
        self.path = os.path.abspath(file)
        self.folder = os.getcwd()
        self._real = os.path.realpath(self.path)
        self.sys_path = _sys_path(os.path.dirname(self._real), dict(os.environ))
        self.loader = SourceFileLoader("__main__", self.path)
        self.code: Any = None
        #: Told when there is a call to be told it.
        self.refused: Exception | None = None
        self._source = b""
        self._seen = self._look()
        try:
            with open(self.path, "rb") as opened:
                self._source = opened.read()
            self.code = _compiled(self._source, self.path, only_quietly)
        except Exception as error:
            self.refused = error

    def may_import(self, name: str) -> bool:
        """Return whether the file names a module, or one beside it may, which nobody read."""
        named = re.search(rb"\b%s\b" % name.partition(".")[0].encode(), self._source)
        return bool(named) or self._is_accompanied()

    def _is_accompanied(self) -> bool:
        """Return whether modules beside the file, or of the function's own path, may come."""
        own = self.sys_path[: len(self.sys_path) - len(BASE_PATH)]
        try:
            folders = [(folder, os.listdir(folder)) for folder in own if os.path.isdir(folder)]
        except OSError:
            return True
        there = (os.path.join(folder, name) for folder, names in folders for name in names)
        beside = (place for place in there if os.path.realpath(place) != self._real)
        return any(place.endswith(".py") or os.path.isdir(place) for place in beside)

    def is_still_so(self) -> bool:
        """Return whether the file is the one that was read."""
        return self._seen is not None and self._seen == self._look()

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _main_module(start: Start) -> types.ModuleType:
    """Return the module that a file is run in, as an interpreter makes it."""
    main = types.ModuleType("__main__")
    main.__file__ = start.path
    main.__loader__ = start.loader
    vars(main).update(__builtins__=sys.modules["builtins"], __cached__=None)
    vars(main).update(__annotations__={})
    return main


def _compiled(source: bytes, path: str, only_quietly: bool) -> Any:
    """Return the code of a file; ``only_quietly``: raise what would be a warning."""
    if not only_quietly:
        return compile(source, path, "exec", dont_inherit=True)
    import warnings  # noqa: PLC0415 - only forks that are made ahead need it

    with warnings.catch_warnings():
        # A warning belongs into the log of each call.
        warnings.simplefilter("error")
        return compile(source, path, "exec", dont_inherit=True)


@contextlib.contextmanager
def _streams_of_a_call() -> Iterator[None]:
    """Have for a moment what a call has on its descriptors 0, 1 and 2."""
    own = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for number in range(3)]
    out, child_out = os.pipe()
    params = _memory("params", b"")
    for number, fd in enumerate((params, child_out, child_out)):
        os.dup2(fd, number)
    yield
    for number, fd in enumerate(own):
        os.dup2(fd, number)
    for fd in (*own, out, child_out, params):
        os.close(fd)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Have for a moment what is printed go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    own = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    try:
        yield
    finally:
        for number, fd in enumerate(own, 1):
            os.dup2(fd, number)
            os.close(fd)


def _end(code: Any, own: Modules) -> NoReturn:
    """End as an interpreter does that ``sys.exit(code)`` ends.

    Its last step is left out where nobody can tell: to destroy what was there before the fork
    would first copy it, page by page, which takes longer than the rest of a short script.
    """
    status = 0 if code is None else code if isinstance(code, int) else 1
    with contextlib.suppress(Exception):
        if not (code is None or isinstance(code, int)):
            print(code, file=sys.stderr)
    with contextlib.suppress(BaseException):
        if "threading" in sys.modules:
            # Waits for those that are no daemons.
            sys.modules["threading"]._shutdown()  # noqa: SLF001
    with contextlib.suppress(BaseException):
        # What the interpreter calls at its end: neither has a public name.
        atexit._run_exitfuncs()  # noqa: SLF001
    try:
        for file in (sys.stdout, sys.stderr):
            _flush(file)
        if _is_known_to_end(own):
            _destroy_modules(own)
            for file in (sys.stdout, sys.stderr):
                _flush(file)
            # Not os._exit: what C libraries have to do or to write at the end is done there.
            _leave_process(status)
    except Exception:
        # The interpreter knows what to say of that, and how to end then.
        raise SystemExit(status) from None
    raise SystemExit(status)


def _flush(file: Any) -> None:
    if file is not None and not file.closed:
        file.flush()


def _is_known_to_end(own: Modules) -> bool:
    """Return whether no library came that the interpreter's own end may mean something to."""
    modules = [sys.modules.get(name) for name in own.came_since()]
    files = (getattr(module, "__file__", None) or "" for module in modules)
    return all(
        not file.endswith(LIBRARIES) or os.path.dirname(file) == OWN_LIBRARIES for file in files
    )


def _destroy_modules(own: Modules) -> None:
    """Take apart the modules of a script: first those that nobody holds, as at any end."""
    sys.stdout, sys.stderr, sys.stdin = sys.__stdout__, sys.__stderr__, sys.__stdin__
    # While all of it is held: what holds others comes before them then, as a file that was not
    # closed before its descriptor.
    gc.collect()
    names = own.came_since()
    left = [weakref.ref(sys.modules.pop(name)) for name in names]
    gc.collect()
    for found in reversed(left):
        module = found()
        if module is not None:
            _destroy(vars(module))


def _destroy(names: dict[str, Any]) -> None:
    """Forget what a module holds, what is private first."""
    for name in [one for one in names if one[:1] == "_" and one[:2] != "__"]:
        names[name] = None
    for name in [one for one in names if one != "__builtins__"]:
        names[name] = None


class Command:
    """Any program, by exec; through sh if its line needs one."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def furnish(self) -> None:
        """Do nothing: another program makes all of it anew."""

    def prepare(self) -> None:
        """Do nothing: another program takes the place of this one."""

    def run(self, report: int) -> NoReturn:
        """Become the program; never returns."""
        # Python ignores these two, and an ignored signal stays ignored in a new program.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(self._argv[0], self._argv)
        except OSError as error:
            text = f"the command {self._argv[0]!r} cannot be run: {error.strerror}"
            _report(report, "command_not_found", text + _why_not(self._argv[0], error))
        os._exit(127)


def _why_not(program: str, error: OSError) -> str:
    """Return what to do about a program that cannot be executed, if that can be told."""
    if isinstance(error, PermissionError):
        return ": is it executable? chmod +x it before packing"
    if error.errno == errno.ENOEXEC:
        return ": it is neither a program of this machine nor begins with a #! line"
    if os.path.isfile(program):
        return ": what its #! line names, or a library that it needs, is not there"
    return ""


def _mode(init: dict[str, Any], env: dict[str, str]) -> Script | Command | Handler:
    """Return how the calls of this sandbox are run: its entry, else its run command."""
    if init["entry"]:
        handler = Handler(init["entry"], init["isolation"])
        handler.check()
        return handler
    run = str(init["run"]).strip()
    if not run:
        raise Broken("function", "command_not_found", "neither run nor entry is given")
    # In single quotes nothing has a meaning to sh either.
    if SHELL.search(re.sub("'[^']*'", "", run)):
        return Command(["/bin/sh", "-c", run])
    import shlex  # noqa: PLC0415 - no handler needs it

    try:
        argv = shlex.split(run)
    except ValueError as error:
        raise Broken("function", "command_not_found", f"run: {error}: {run}") from error
    return Script(argv, env) if _is_script(argv, env) else Command(argv)


def _is_script(argv: list[str], env: dict[str, str]) -> bool:
    """Return whether a fork of this interpreter is what the command would start."""
    words = argv[2:] if argv[1:2] == ["-u"] else argv[1:]
    if not PYTHON.match(argv[0]) or not words or words[0].startswith("-"):
        return False
    if any(READ_AT_START.match(name) for name in env if os.environ.get(name) != env[name]):
        return False
    found = _find_program(argv[0], env.get("PATH", os.defpath))
    same = os.path.realpath(found) == os.path.realpath(sys.executable)
    return same and not os.path.isdir(words[0])


def _find_program(name: str, path: str) -> str:
    """Return the file that is executed by this name; nothing if there is none."""
    places = (os.path.join(folder, name) for folder in path.split(os.pathsep))
    found = (one for one in places if os.path.isfile(one) and os.access(one, os.X_OK))
    return next(found, "")


# --- how a call ended -----------------------------------------------------------------------


def _verdict(call: Call, status: int, limit: int) -> tuple[str, str]:
    """Return code and message of a call whose process has ended; no code is DONE."""
    if status != 0 and _starved(call):
        return "oom", _memory_text()
    if os.WIFSIGNALED(status):
        return _signalled(status)
    exit_code = os.WEXITSTATUS(status)
    if exit_code != 0:
        return _reported(call.report) or ("exit_code", f"it exited with the code {exit_code}")
    if not call.printed.out.is_whole:
        text = "it printed %d bytes to stdout; a result may have %d"
        return "result_too_large", text % (call.printed.out.total, limit)
    return "", ""


def _starved(call: Call) -> bool:
    """Return whether a program that failed said last that it got no memory.

    Only where the limit refuses memory: elsewhere the kernel kills, and counts it.
    """
    limited = resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
    return limited and bool(STARVED.search(call.printed.err.cut()[-LAST_WORDS_BYTES:]))


def _host_verdict(status: int) -> tuple[str, str]:
    """Return code and message of a handler whose process ended before it returned."""
    if os.WIFSIGNALED(status):
        return _signalled(status)
    exit_code = os.WEXITSTATUS(status)
    if exit_code == OOM_STATUS:
        return "oom", _memory_text()
    if exit_code == BROKEN_STATUS:
        text = "it took from its process what an answer needs: a descriptor, or a module"
        return "exit_code", text
    text = f"its process exited with the code {exit_code}: a handler returns its result"
    return "exit_code", text


def _signalled(status: int) -> tuple[str, str]:
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        # Real-time signals but the first and the last have no name.
        name = f"number {number}"
    return "signal", f"it was ended by the signal {name}"


def _reported(report: int) -> tuple[str, str] | None:
    """Return what a call's process said of its end, if it said anything."""
    try:
        code, message = json.loads(os.read(report, READ_BYTES))
    except (ValueError, TypeError, OSError):
        return None
    if code == "oom":
        return "oom", _memory_text()
    if code not in ("raised", "command_not_found"):
        code = "raised"
    return code, str(message)[:MESSAGE_CHARS]


def _report(fd: int, code: str, message: str) -> None:
    try:
        os.write(fd, json.dumps([code, message]).encode())
    except OSError:
        # The program closed it: its exit code has to do.
        return


def _message_of(said: bytes) -> str:
    """Return why a host could not load; the function may have said something else there."""
    try:
        return str(json.loads(said)["message"])[:MESSAGE_CHARS]
    except (ValueError, TypeError, KeyError):
        return "it wrote to a descriptor of its agent while it was loaded"


def _memory_text() -> str:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return "it reached its memory limit"
    return f"it reached its memory limit of {limit >> 20} MiB"


def _result_frame(
    attempt: int,
    verdict: tuple[str, str],
    result: bytes,
    logs: tuple[bytes, bytes, int],
    peak_memory: int,
) -> tuple[dict[str, Any], bytes]:
    code, message = verdict
    out, err, omitted = logs
    status = "OOM" if code == "oom" else "FAILED" if code else "DONE"
    header = {"type": "result", "attempt": attempt, "status": status, "code": code}
    header.update(message=message, sizes=[len(result), len(out), len(err)])
    header.update(omitted=omitted, peakMemory=peak_memory)
    return header, result + out + err


def _exit_frame(
    attempt: int, logs: tuple[bytes, bytes, int], began: bool = True
) -> tuple[dict[str, Any], bytes]:
    out, err, omitted = logs
    header = {"type": "exit", "attempt": attempt, "began": began}
    header.update(sizes=[len(out), len(err)], omitted=omitted)
    return header, out + err


# --- in a process of the function -----------------------------------------------------------


class Bundle:
    """Finds the bundle as the package ``function``, where nothing else has that name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Return how to load the package; its modules are found as in any other."""
        if name != "function":
            return None
        init = os.path.join(self._folder, "__init__.py")
        if os.path.exists(init):
            loader = SourceFileLoader(name, init)
            spec = spec_from_file_location(
                name, init, loader=loader, submodule_search_locations=[self._folder]
            )
        else:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [self._folder]
        return spec


def _sys_path(first: str, env: dict[str, str]) -> list[str]:
    own = [os.path.abspath(p) for p in env.get("PYTHONPATH", "").split(":") if p]
    return [first, *own, *BASE_PATH]


def _find_here(path: list[str], folder: str) -> None:
    """Have modules found as an interpreter does, and the bundle in this folder as a package."""
    sys.path[:] = path
    sys.meta_path.append(Bundle(folder))
    # The bundle is read-only, and what is beside it is gone after the call.
    sys.dont_write_bytecode = True


def _standard_streams(
    encoding: str, errors: str, through: bool = False, line: bool = False
) -> tuple[Any, Any, Any]:
    """Return sys.stdin, stdout and stderr as an interpreter makes them."""
    return (
        _text(0, "r", encoding, errors),
        _text(1, "w", encoding, errors, through, line),
        _text(2, "w", encoding, "backslashreplace", through, line=True),
    )


def _use_streams(stdin: Any, stdout: Any, stderr: Any) -> None:
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc]


def _text(
    fd: int, mode: str, encoding: str, errors: str, through: bool = False, line: bool = False
) -> io.TextIOWrapper:
    raw = io.FileIO(fd, mode, closefd=False)
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    newline = "\n" if mode == "w" else None
    text = io.TextIOWrapper(
        buffer, encoding, errors, newline, line_buffering=line, write_through=through
    )
    text.mode = mode  # type: ignore[misc]
    return text


def _text_of(error: BaseException) -> str:
    """Return type and message of an exception, clipped, whatever its __str__ does."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    whole = f"{name}: {text}" if text else name
    return whole[:MESSAGE_CHARS].encode("utf-8", "replace").decode()


def _print_exception(error: BaseException) -> None:
    """Print a traceback as an interpreter does: without the frames of this file."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    with contextlib.suppress(Exception):
        sys.excepthook(type(error), error.with_traceback(trace), trace)


def _is_ours(trace: types.TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    return name == __file__ or name.startswith("<frozen importlib")


def _params_in_env(params: bytes) -> dict[str, str]:
    """Return the variable that holds a call's params, or that names the file they are in."""
    if len(params) > PARAMS_IN_ENV_BYTES:
        return {"SKEP_PARAMS_FILE": "/proc/self/fd/0"}
    return {"SKEP_PARAMS": params.replace(b"\0", b"").decode("utf-8", "surrogateescape")}


def _env_of(message: dict[str, Any], params: dict[str, str]) -> dict[str, str]:
    """Return what a call has in its environment beside what all have."""
    env: dict[str, str] = message["env"]
    env.update(params)
    env["SKEP_DEADLINE_MS"] = str(message["timeoutMs"])
    return env


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- the machine ----------------------------------------------------------------------------


def _keep_freed_memory() -> None:
    """Have the C library keep some of what is freed, for the next call.

    Else what a large call needs is given back to the kernel again and again, even within the
    call, and each page that is new costs more than what is done with it. A C library that has
    no such settings does as it does.
    """
    with contextlib.suppress(AttributeError):
        LIBC.mallopt(MMAP_THRESHOLD, KEPT_BYTES)
        LIBC.mallopt(TRIM_THRESHOLD, KEPT_BYTES)


def _default(number: int) -> None:
    """Let a signal do what it does by itself.

    By ``signal.signal`` it would be more than a tenth of what a fork does: that looks for a
    name of what was done before, and for words to say that there is none.
    """
    _signal.signal(number, _signal.SIG_DFL)


def _prctl(option: int, value: int) -> None:
    LIBC.prctl(option, value, 0, 0, 0)


def _connect(path: str) -> int:
    # Relative, because an address holds 108 bytes and folders may be deeper.
    os.chdir(os.path.dirname(path))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.path.basename(path))
    return connection.detach()


def _has_come(fd: int) -> bool:
    """Return whether there is something to read, without waiting for it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _read_all(fd: int, size: int) -> bytes:
    """Return exactly so many bytes; raise ``EOFError`` where there are no more."""
    data = _read(fd, min(size, 1 << 20)) if size else b""
    if len(data) == size:
        return data
    whole = bytearray(size)
    have = len(data)
    whole[:have] = data
    came = have
    with memoryview(whole) as view:
        # Each piece to its place: what is large is copied no more often than it must be.
        while came and have < size:
            came = _readv(fd, [view[have:]])
            have += came
    if have < size:
        raise EOFError("the connection has ended")
    # Whoever asks takes any kind of bytes, and bytes proper would be one copy more.
    return whole  # type: ignore[return-value]


def _read_two(fd: int, first: int, second: int) -> tuple[bytes, bytes]:
    """Return so many bytes, and so many that follow: at once, if they are few."""
    if first + second > READ_BYTES:
        return _read_all(fd, first), _read_all(fd, second)
    data = _read_all(fd, first + second)
    return data[:first], data[first:]


def _write_both(fd: int, head: bytes, body: bytes) -> None:
    """Write a body behind its head: at once, if it is small, for one of them is a copy."""
    if len(body) > READ_BYTES:
        _write_all(fd, head)
        _write_all(fd, body)
    else:
        _write_all(fd, head + body)


def _write_all(fd: int, data: bytes) -> None:
    sent = _write(fd, data)
    while sent < len(data):
        sent += _write(fd, memoryview(data)[sent:])


def _lay_out(bundle: str, path: str, kept: frozenset[str] = frozenset()) -> None:
    """Make the path as a call finds it: links to the bundle's top entries, and what is kept."""
    if bundle == path:
        return
    wanted = {name: os.path.join(bundle, name) for name in os.listdir(bundle)}
    for name in os.listdir(path):
        place = os.path.join(path, name)
        if os.path.islink(place) and os.readlink(place) == wanted.get(name):
            del wanted[name]
        elif place not in kept or name in wanted:
            _remove(place)
    for name, target in wanted.items():
        os.symlink(target, os.path.join(path, name))


def _empty(folder: str, kept: frozenset[str]) -> None:
    """Remove what is in a folder but what is kept."""
    for name in os.listdir(folder):
        if os.path.join(folder, name) not in kept:
            _remove(os.path.join(folder, name))


def _remove(place: str) -> None:
    """Remove a file or a folder, whatever modes a call left in it."""
    if os.path.islink(place) or not os.path.isdir(place):
        os.unlink(place)
        return
    os.chmod(place, 0o700)
    for folder, names, _ in os.walk(place):
        for inner in (os.path.join(folder, name) for name in names):
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    import shutil  # noqa: PLC0415 - only a call that leaves a folder is worth its time

    shutil.rmtree(place)


def _memory(name: str, data: bytes) -> int:
    """Return a descriptor from which these bytes can be read."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    _fill(fd, data)
    return fd


def _fill(fd: int, data: bytes) -> None:
    """Write these bytes where whoever shares the descriptor reads from the beginning."""
    if data:
        _write_all(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)


def _kill_the_others() -> bool:
    """Kill all that may be killed here; return whether there was anything."""
    if ALONE:
        # In a pid namespace of its own this reaches everything, and nothing else.
        return _kill(-1)
    others = _descendants(os.getpid())
    for pid in others:
        _kill(pid)
    return bool(others)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _reap_all() -> None:
    """Reap all children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants(pid: int) -> list[int]:
    """Return all that come of a process; as their subreaper it loses none of them."""
    by_parent: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            by_parent.setdefault(parent, []).append(int(name))
    found: list[int] = []
    todo = [pid]
    while todo:
        new = by_parent.get(todo.pop(), [])
        found.extend(new)
        todo.extend(new)
    return found


def _serve(path: str) -> tuple[Script | Command, int]:
    """Be the first process; returns in the fork of a call only, with what it is to be."""
    sandbox = Sandbox(path)
    try:
        sandbox.meet()
        mode = _mode(sandbox.init, sandbox.env)
        floor: Keeper | PerCall
        if isinstance(mode, Handler):
            floor = Keeper(sandbox)
        else:
            sandbox.dismiss_ahead()
            floor = PerCall(sandbox, mode)
        gc.freeze()
        floor.get_ready()
    except Broken as error:
        broken = {"type": "broken", "fault": error.fault, "code": error.code}
        sandbox.tell(dict(broken, message=str(error)), error.log)
        sandbox.leave()
    while True:
        call = floor.turn()
        if call is not None:
            return call


def main() -> None:
    """Serve; in the fork of a call, run it where an interpreter's own end follows."""
    mode, report = _serve(sys.argv[1])
    mode.run(report)


if __name__ == "__main__":
    main()
