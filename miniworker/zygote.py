"""The fork server: single-threaded, it imports but never creates a context, loop or thread.

It is the parent of all miniworkers of a worker: forks them on order, reaps them, reports
their ends, and leaves nothing of them. The worker's end of the socket closed means that the
worker is gone: then everything ends.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from miniworker import drivers, kernel, loop, processes
from miniworker.handed import Handed
from wire import jobs, logs
from wire.allocator import keep_freed
from wire.errors import ProtocolError

log = logging.getLogger(__name__)

PACKET_BYTES: Final = 256 << 10
#: How long what sweeps waits for an engine that is away.
PATIENCE_S: Final = 600.0
#: The same at the end, when a worker waits for its zygote, or somebody for the whole node.
LEAVE_S: Final = 5.0
#: The same of who looks on after that, for what an engine has yet to make.
LINGER_S: Final = 60.0
#: What may stay with a miniworker of a call's params or result: a few copies of a megabyte.
#: There may be hundreds of miniworkers, but only those have it that had large calls.
KEPT_BYTES: Final = 4 << 20
#: How often is looked for containers whose time is over, whoever left them.
SWEEP_S: Final = 60.0


class Zygote:
    """What was forked and still lives, by pid."""

    def __init__(
        self, worker: socket.socket, kind: drivers.Name, settings: Mapping[str, str]
    ) -> None:
        self._worker = worker
        self._kind: drivers.Name = kind
        self._settings = settings
        self._living: dict[int, jobs.Spawn] = {}
        self._handed: dict[int, Handed] = {}
        #: Short-lived forks that remove what a killed miniworker left.
        self._sweepers: set[int] = set()
        self._killed: set[str] = set()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = False
        self._sweeps_at = 0.0
        #: The worker's pid: what is no child of it any more has been left.
        self._parent = os.getppid()

    def __repr__(self) -> str:
        return f"<Zygote of {len(self._living)} miniworkers>"

    def serve(self) -> None:
        """Fork, reap and kill until the worker is gone."""
        # Orphans of a killed miniworker become ours, and end with it.
        kernel.adopt_orphans()
        self._listen()
        drivers.driver(self._kind)
        # A fork inherits the setting, and need not write to shared pages to make it.
        keep_freed(KEPT_BYTES)
        gc.collect()
        # What is there now is never moved or marked again, so its pages stay shared.
        gc.freeze()
        self._sweep()
        while not self._ended:
            self._turn()
        self._leave()

    def _leave(self) -> None:
        processes.end_orphans()
        # What sweeps has just been ended too, done or not.
        has_left = bool(self._living or self._killed or self._sweepers)
        may_come = has_left and self._sweep_own(LEAVE_S)
        # Containers may have been asked for that would show them.
        for order in self._living.values():
            shutil.rmtree(order.folder, ignore_errors=True)
        if may_come:
            # Nobody waits for this one.
            _in_fork(self._linger)

    def _linger(self) -> None:
        # Nor for what it could say: whoever reads that would wait for its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        self._sweep_own(LINGER_S)

    def _sweep_own(self, patience_s: float) -> bool:
        """Remove what is left at the end of this worker; return whether more may come."""
        return drivers.sweep(
            self._kind, self._settings, 0, worker=self._parent, patience_s=patience_s
        )

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        # Ctrl-C reaches the whole terminal; the worker stops its miniworkers in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_term(self, *_: object) -> None:
        self._ended = True

    def _turn(self) -> None:
        fds = [self._worker.fileno(), self._wake]
        readable, _, _ = select.select(fds, [], [], self._until_swept())
        if self._wake in readable:
            os.read(self._wake, 4096)
            self._reap()
        if self._worker.fileno() in readable:
            self._obey(self._next_packet())

    def _until_swept(self) -> float | None:
        """Sweep now and then where others may leave what only its label says to be over."""
        if not drivers.has_leavings(self._kind):
            return None
        if time.monotonic() >= self._sweeps_at and not self._sweepers:
            self._sweep()
        return max(1.0, self._sweeps_at - time.monotonic())

    def _next_packet(self) -> bytes:
        try:
            return self._worker.recv(PACKET_BYTES)
        except ConnectionResetError:
            # It ended with packets of ours unread: the end of file in other words.
            return b""

    def _obey(self, packet: bytes) -> None:
        if not packet:
            self._ended = True
            return
        try:
            order = jobs.decode_order(packet)
        except ProtocolError as error:
            log.error("%s", error.message)
            return
        match order:
            case jobs.Spawn():
                self._fork(order)
            case jobs.Kill():
                self._kill(order.miniworker)

    def _fork(self, order: jobs.Spawn) -> None:
        parent = os.getpid()
        handed = Handed()
        pid = os.fork()
        if pid == 0:
            _be_child(parent, order, handed)
        self._living[pid], self._handed[pid] = order, handed
        self._report(jobs.Spawned(miniworker=order.miniworker, pid=pid))

    def _kill(self, miniworker: str) -> None:
        for pid, order in self._living.items():
            if order.miniworker == miniworker:
                processes.kill(pid)

    def _reap(self) -> None:
        while (ended := _next_ended()) is not None:
            pid, status = ended
            order = self._living.pop(pid, None)
            if order is not None:
                self._bury(order, pid, status)
            self._sweepers.discard(pid)

    def _bury(self, order: jobs.Spawn, pid: int, status: int) -> None:
        """Leave nothing of a miniworker: its processes, then its folder; then say so."""
        processes.end_orphans(spared=self._living.keys() | self._sweepers)
        if status != 0:
            self._killed.add(order.miniworker)
            self._sweep(order.folder)
        handed = self._handed.pop(pid)
        exited = jobs.Exited(
            miniworker=order.miniworker, pid=pid, status=status, handed=handed.begun()
        )
        handed.close()
        self._report(exited)

    def _sweep(self, *folders: str) -> None:
        # In a fork: a folder that a function filled can take long to remove, and so can
        # what an engine has to remove.
        self._sweeps_at = time.monotonic() + SWEEP_S
        zygote = os.getpid()

        def remove() -> None:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            dead, patience_s = self._killed, PATIENCE_S
            drivers.sweep(self._kind, self._settings, zygote, dead, patience_s=patience_s)

        self._sweepers.add(_in_fork(remove))

    def _report(self, order: jobs.Spawned | jobs.Exited) -> None:
        try:
            self._worker.send(jobs.encode_order(order))
        except OSError as error:
            log.warning("the worker does not listen any more: %s", error)
            self._ended = True


def _in_fork(remove: Callable[[], None]) -> int:
    """Have something removed by a process of its own; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            _begin_child()
            remove()
        except Exception:
            log.exception("what was left is left")
        finally:
            os._exit(0)
    return pid


def _next_ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _be_child(parent: int, order: jobs.Spawn, handed: Handed) -> None:
    """Become a miniworker; never returns."""
    status = 1
    try:
        _begin_child(parent, handed.mark.fd)
        logs.become("miniworker", miniworker=order.miniworker)
        status = loop.run(order, handed)
    except Exception:
        log.exception("a miniworker could not begin")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _begin_child(parent: int | None = None, kept: int = 2) -> None:
    """Shed what a fork inherits: session, signals, all descriptors but one, random's state."""
    os.setsid()
    if parent is not None:
        kernel.die_with_parent()
        if os.getppid() != parent:
            os._exit(0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    random.seed()


def serve(fd: int, kind: drivers.Name = "process", settings: str = "{}") -> None:
    """Be the zygote of the worker that holds the other end of this descriptor."""
    with socket.socket(fileno=fd) as worker:
        worker.setblocking(True)
        Zygote(worker, kind, json.loads(settings)).serve()
