"""The agent of Python sandboxes: one file, the standard library only, Python 3.8 or later.

``python3 agent.py SOCKET`` is the first process of a sandbox. It connects twice to the
miniworker that listens there (docs/protocol.md, "Miniworker and agent"), and then runs one
call at a time. It never runs user code itself: each call is a fork of this preloaded
interpreter which becomes a true ``python3 test.py`` (*script*), or any program (*command*).
When a call has ended nothing of it is left but this process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import io
import json
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import struct
import sys
import time
import types
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from typing import Any, NoReturn

PROTOCOL = 1
READ_BYTES = 64 << 10
#: exec refuses an environment string of 128 KiB; above this the params go into a file.
PARAMS_IN_ENV_BYTES = 64 << 10
MESSAGE_CHARS = 2000
#: Where the report of a call's process goes: far from the numbers that programs use.
REPORT_FD = 200
LENGTHS = struct.Struct(">II")
MARK = struct.Struct("<Q")
#: What makes a command one for sh instead of a plain list of words.
SHELL = re.compile(r"[|&;<>()$`*?\[\]{}~#\n]|^(\w+=|(exec|cd|export|set|umask|ulimit)\b)")
#: What an interpreter reads at its start only: who sets one gets an interpreter of his own.
READ_AT_START = re.compile(r"PYTHON(?!PATH$|UNBUFFERED$)|LC_|LANG$|LANGUAGE$|TZDIR$")
PYTHON = re.compile(r"python(3(\.\d+)?)?\Z")

SET_DUMPABLE = 4
SET_CHILD_SUBREAPER = 36

#: The path as an interpreter has it, without the folder of this file.
BASE_PATH = sys.path[1:]


class Broken(Exception):
    """The sandbox cannot get ready: whose fault, a code of the interface, a sentence."""

    def __init__(self, fault: str, code: str, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.code = code


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
            chunk = os.read(self.fd, READ_BYTES)
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


class Call:
    """A call that runs: its process, and what is read from it."""

    def __init__(self, attempt: int, pid: int, out: Stream, err: Stream, report: int) -> None:
        self.attempt = attempt
        self.pid = pid
        self.out = out
        self.err = err
        self.report = report
        self.status: int | None = None
        self.peak_memory = 0
        self.params_file = ""

    def stream(self, fd: int) -> Stream:
        """Return the one of the two that has this descriptor."""
        return self.out if fd == self.out.fd else self.err

    def close(self) -> None:
        """Forget the descriptors and the params' file."""
        for fd in (self.out.fd, self.err.fd, self.report):
            os.close(fd)
        if self.params_file and os.path.exists(self.params_file):
            os.unlink(self.params_file)


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

    def run(self, report: int) -> None:
        """Be that interpreter; returns as one does, for its own end to follow."""
        self._standard_streams()
        path = os.path.abspath(self._argv[0])
        main = self._main_module(path)
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            line = "%s: can't open file %r: [Errno %d] %s"
            words = (self._executable, path, error.errno, error.strerror)
            print(line % words, file=sys.stderr)
            raise SystemExit(2) from None
        try:
            code = compile(source, path, "exec", dont_inherit=True)
            exec(code, main.__dict__)
        except SystemExit:
            raise
        except BaseException as error:
            _report_exception(report, error)
            _print_exception(error)
            raise SystemExit(1) from None

    def _main_module(self, path: str) -> types.ModuleType:
        sys.argv = list(self._argv)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = list(self._command)
        own = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(":") if p]
        sys.path[:] = [os.path.dirname(os.path.realpath(path)), *own, *BASE_PATH]
        sys.meta_path.append(Bundle(os.getcwd()))
        main = types.ModuleType("__main__")
        main.__file__ = path
        main.__loader__ = SourceFileLoader("__main__", path)
        vars(main).update(__builtins__=sys.modules["builtins"], __cached__=None)
        vars(main).update(__annotations__={})
        sys.modules["__main__"] = main
        return main

    def _standard_streams(self) -> None:
        encoding, errors = sys.stdout.encoding, sys.stdout.errors or "strict"
        sys.stdin = sys.__stdin__ = _text(0, "r", encoding, errors)  # type: ignore[misc]
        out = _text(1, "w", encoding, errors, through=self._unbuffered)
        err = _text(2, "w", encoding, "backslashreplace", through=self._unbuffered, line=True)
        sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = err  # type: ignore[misc]


class Command:
    """Any program, by exec; through sh if its line needs one."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def run(self, report: int) -> None:
        """Become the program; never returns."""
        # Python ignores these two, and an ignored signal stays ignored in a new program.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(self._argv[0], self._argv)
        except OSError as error:
            text = f"the command {self._argv[0]!r} cannot be run: {error.strerror}"
            _write(report, "command_not_found", text)
        os._exit(127)


def _mode(init: dict[str, Any], env: dict[str, str]) -> Script | Command:
    """Return how the calls of this sandbox are run."""
    if init["entry"]:
        text = f"this agent has no handler mode: entry {init['entry']!r} needs a run command"
        raise Broken("function", "entry_not_found", text)
    run = str(init["run"]).strip()
    if not run:
        raise Broken("function", "command_not_found", "neither run nor entry is given")
    # In single quotes nothing has a meaning to sh either.
    if SHELL.search(re.sub("'[^']*'", "", run)):
        return Command(["/bin/sh", "-c", run])
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
    found = shutil.which(argv[0], path=env.get("PATH", os.defpath))
    same = found is not None and os.path.realpath(found) == os.path.realpath(sys.executable)
    return same and not os.path.isdir(words[0])


class Agent:
    """The first process: two connections, at most one call, and everybody's parent."""

    def __init__(self, path: str) -> None:
        self._control = _connect(path)
        self._data = _connect(path)
        self._mark = -1
        self._limits: dict[str, int] = {}
        self._env: dict[str, str] = {}
        self._path = "/"
        self._bundle = "/"
        self._mode: Script | Command = Command([])
        self._call: Call | None = None
        self._child: tuple[Script | Command, int] | None = None
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> tuple[Script | Command, int]:
        """Run calls; returns in the fork of one only, with what is to be run there."""
        _prctl(SET_DUMPABLE, 0)
        _prctl(SET_CHILD_SUBREAPER, 1)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._send(
            self._control, {"type": "hello", "protocol": 1, "pid": os.getpid(), "mark": True}
        )
        try:
            self._prepare()
        except Broken as error:
            broken = {"type": "broken", "fault": error.fault, "code": error.code}
            self._send(self._control, dict(broken, message=str(error)))
            self._leave()
        self._send(self._control, {"type": "ready"})
        gc.collect()
        gc.freeze()
        while self._child is None:
            self._turn()
        return self._child

    # --- getting ready -----------------------------------------------------------------

    def _prepare(self) -> None:
        init = self._receive_init()
        self._limits = init["limits"]
        self._env = init["env"]
        self._path = init["path"]
        try:
            self._bundle = init["bundle"]
            _lay_out(self._bundle, self._path)
            os.chdir(self._path)
        except OSError as error:
            code = "no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "no_sandbox"
            raise Broken("node", code, f"the code cannot be put in place: {error}") from error
        self._mode = _mode(init, self._env)

    def _receive_init(self) -> dict[str, Any]:
        """Read ``init``; the mark travels with its first byte."""
        data, ancillary, _, _ = self._control.recvmsg(LENGTHS.size, socket.CMSG_SPACE(4))
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._mark = struct.unpack_from("i", packed)[0]
                os.set_inheritable(self._mark, False)
        data += self._exactly(self._control, LENGTHS.size - len(data))
        header, _ = LENGTHS.unpack(data)
        init: dict[str, Any] = json.loads(self._exactly(self._control, header))
        return init

    # --- the loop ----------------------------------------------------------------------

    def _turn(self) -> None:
        for fd in self._readable():
            if fd == self._control.fileno():
                self._obey(self._receive(self._control)[0])
            elif fd == self._data.fileno():
                self._begin(*self._receive(self._data))
            elif fd == self._wake:
                os.read(self._wake, 4096)
                self._reap()
            elif self._call is not None:
                self._call.stream(fd).read()
            if self._child is not None:
                return
        if self._call is not None and self._call.status is not None:
            self._finish(self._call, self._call.status)

    def _readable(self) -> list[int]:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        if self._call is None:
            poll.register(self._data, select.POLLIN)
        else:
            for stream in (self._call.out, self._call.err):
                if stream.is_open:
                    poll.register(stream.fd, select.POLLIN)
        return [fd for fd, _ in poll.poll()]

    def _obey(self, message: dict[str, Any]) -> None:
        """Kill the attempt that is named, and never its successor."""
        call = self._call
        if call is None or message["attempt"] != call.attempt:
            return
        self._clear()
        out, err = self._cuts(call)
        omitted = call.out.total + call.err.total - len(out) - len(err)
        exit_ = {"type": "exit", "attempt": call.attempt, "began": True}
        exit_.update(sizes=[len(out), len(err)], omitted=omitted)
        self._forget(call)
        self._send(self._control, exit_, out + err)
        self._tidy()

    # --- one call ----------------------------------------------------------------------

    def _begin(self, message: dict[str, Any], params: bytes) -> None:
        env = dict(self._env)
        env.update(message["env"])
        env["SKEP_DEADLINE_MS"] = str(message["timeoutMs"])
        params_file = self._hand_params(env, params, message["attempt"])
        stdin = _memory(params)
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        report, child_report = os.pipe()
        self._note(message["attempt"])
        try:
            pid = os.fork()
        except OSError as error:
            print(f"no process for the call: {error}", file=sys.stderr)
            # Nothing of it began, so that it may go elsewhere.
            self._note(0)
            self._leave()
        if pid == 0:
            self._become((stdin, child_out, child_err), child_report, env)
            return
        for fd in (stdin, child_out, child_err, child_report):
            os.close(fd)
        self._call = self._started(message["attempt"], pid, out, err, report)
        self._call.params_file = params_file

    def _started(self, attempt: int, pid: int, out: int, err: int, report: int) -> Call:
        head, tail = self._limits["head"], self._limits["tail"]
        for fd in (out, err, report):
            os.set_blocking(fd, False)
        stdout = Stream(out, self._limits["result"], head, tail)
        return Call(attempt, pid, stdout, Stream(err, head + tail, head, tail), report)

    def _hand_params(self, env: dict[str, str], params: bytes, attempt: int) -> str:
        if len(params) <= PARAMS_IN_ENV_BYTES:
            env["SKEP_PARAMS"] = os.fsdecode(params.replace(b"\0", b""))
            return ""
        # Not to be guessed: an earlier call may have left files in the way.
        name = f"skep-params-{attempt}-{os.urandom(8).hex()}.json"
        path = os.path.join(env.get("TMPDIR", "/tmp"), name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with open(fd, "wb") as file:
            file.write(params)
        env["SKEP_PARAMS_FILE"] = path
        return path

    def _note(self, attempt: int) -> None:
        """Say in the mark that this attempt begins, before any of its code runs."""
        if self._mark >= 0:
            os.pwrite(self._mark, MARK.pack(attempt), 0)

    def _become(self, streams: tuple[int, int, int], report: int, env: dict[str, str]) -> None:
        """Turn a fork into the process of a call: nothing of the agent stays open."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.detach()
        self._data.detach()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, REPORT_FD)
        os.closerange(3, report)
        os.closerange(report + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        # A fork inherits this from its parent; a program must be able to read /proc/self.
        _prctl(SET_DUMPABLE, 1)
        os.environ.clear()
        os.environ.update(env)
        random.seed()
        self._child = (self._mode, report)

    def _finish(self, call: Call, ended: int) -> None:
        """Answer for a call whose process has ended; what it left behind is ended first."""
        self._clear()
        status, code, message = _verdict(call, ended, self._limits["result"])
        result = call.out.whole() if status == "DONE" else b""
        out, err = self._cuts(call)
        if status == "DONE":
            out = b""
        printed = call.err.total + (0 if status == "DONE" else call.out.total)
        header = {"type": "result", "attempt": call.attempt, "status": status, "code": code}
        header.update(message=message, sizes=[len(result), len(out), len(err)])
        header.update(omitted=printed - len(out) - len(err), peakMemory=call.peak_memory)
        self._forget(call)
        self._send(self._data, header, result + out + err)
        self._tidy()

    def _tidy(self) -> None:
        """Undo what a call did to its work folder, off its reply's path."""
        try:
            _lay_out(self._bundle, self._path)
        except OSError as error:
            print(f"the work folder cannot be tidied: {error}", file=sys.stderr)
            # Another sandbox takes the next call: this one would fail it.
            self._leave()

    def _cuts(self, call: Call) -> tuple[bytes, bytes]:
        """Read what is still in the pipes; return what is kept of stdout and stderr."""
        for stream in (call.out, call.err):
            while stream.read():
                pass
        return call.out.cut(), call.err.cut()

    def _forget(self, call: Call) -> None:
        self._call = None
        call.close()

    # --- processes ---------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap all that has ended; the end of the call's own process is noted."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._call is not None and pid == self._call.pid:
                self._call.status = status
                self._call.peak_memory = usage.ru_maxrss * 1024

    def _clear(self) -> None:
        """End everything in the sandbox but this process, and reap it."""
        while _kill_the_others():
            self._reap()
            time.sleep(0.0005)
        self._reap()

    def _leave(self) -> NoReturn:
        """The miniworker is gone, or this sandbox never got ready: end with all the rest."""
        self._call = None
        self._clear()
        os._exit(0)

    # --- frames ------------------------------------------------------------------------

    def _send(
        self, connection: socket.socket, header: dict[str, Any], body: bytes = b""
    ) -> None:
        packed = json.dumps(header).encode()
        try:
            connection.sendall(LENGTHS.pack(len(packed), len(body)) + packed + body)
        except OSError:
            self._leave()

    def _receive(self, connection: socket.socket) -> tuple[dict[str, Any], bytes]:
        lengths = self._exactly(connection, LENGTHS.size)
        header, body = LENGTHS.unpack(lengths)
        return json.loads(self._exactly(connection, header)), self._exactly(connection, body)

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = connection.recv(min(size - len(data), 1 << 20))
            except OSError:
                chunk = b""
            if not chunk:
                self._leave()
            data += chunk
        return bytes(data)


def _verdict(call: Call, status: int, limit: int) -> tuple[str, str, str]:
    """Return status, code and message of a call whose process has ended."""
    if os.WIFSIGNALED(status):
        name = _signal_name(os.WTERMSIG(status))
        return "FAILED", "signal", f"it was ended by the signal {name}"
    exit_code = os.WEXITSTATUS(status)
    if exit_code != 0:
        return _failure(call.report, exit_code)
    if not call.out.is_whole:
        text = "it printed %d bytes to stdout; a result may have %d"
        return "FAILED", "result_too_large", text % (call.out.total, limit)
    return "DONE", "", ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals but the first and the last have no name.
        return f"number {number}"


def _failure(report: int, exit_code: int) -> tuple[str, str, str]:
    try:
        code, message = json.loads(os.read(report, READ_BYTES))
    except (ValueError, TypeError, OSError):
        return "FAILED", "exit_code", f"it exited with the code {exit_code}"
    if code == "oom":
        return "OOM", "oom", f"it reached its memory limit: {message}"
    if code not in ("raised", "command_not_found"):
        code = "raised"
    return "FAILED", code, str(message)[:MESSAGE_CHARS]


# --- in the process of a call -------------------------------------------------------------


def _text(
    fd: int, mode: str, encoding: str, errors: str, through: bool = False, line: bool = False
) -> io.TextIOWrapper:
    """Return a standard stream as an interpreter makes it."""
    raw = io.FileIO(fd, mode, closefd=False)
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    newline = "\n" if mode == "w" else None
    text = io.TextIOWrapper(
        buffer, encoding, errors, newline, line_buffering=line, write_through=through
    )
    text.mode = mode  # type: ignore[misc]
    return text


def _report_exception(report: int, error: BaseException) -> None:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    code = "oom" if isinstance(error, MemoryError) else "raised"
    _write(report, code, f"{name}: {text}" if text else name)


def _print_exception(error: BaseException) -> None:
    """Print a traceback as an interpreter does: without the frames of this file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _write(report: int, code: str, message: str) -> None:
    message = message[:MESSAGE_CHARS].encode("utf-8", "replace").decode()
    try:
        os.write(report, json.dumps([code, message]).encode())
    except OSError:
        # The program closed it: its exit code has to do.
        return


# --- the machine --------------------------------------------------------------------------


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _connect(path: str) -> socket.socket:
    # Relative, because an address holds 108 bytes and folders may be deeper.
    os.chdir(os.path.dirname(path))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.path.basename(path))
    return connection


def _lay_out(bundle: str, path: str) -> None:
    """Make the path as a call finds it: links to the bundle's top entries, nothing else."""
    if bundle == path:
        return
    wanted = {name: os.path.join(bundle, name) for name in os.listdir(bundle)}
    for name in os.listdir(path):
        place = os.path.join(path, name)
        if os.path.islink(place) and os.readlink(place) == wanted.get(name):
            del wanted[name]
        else:
            _remove(place)
    for name, target in wanted.items():
        os.symlink(target, os.path.join(path, name))


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
    shutil.rmtree(place)


def _memory(data: bytes) -> int:
    """Return a descriptor from which these bytes can be read."""
    fd = os.memfd_create("params", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _kill_the_others() -> bool:
    """Kill all that may be killed here; return whether there was anything."""
    if os.getpid() == 1:
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


def main() -> None:
    """Serve; in the fork of a call, run it where an interpreter's own end follows."""
    mode, report = Agent(sys.argv[1]).serve()
    mode.run(report)


if __name__ == "__main__":
    main()
