"""The process of one miniworker: a plain blocking loop between its worker and its agent.

It may block because it owns exactly one sandbox. What becomes of attempts is decided in
``attempts``; here are the sockets, the sandbox and the clock.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from miniworker import agent, drivers
from miniworker.actions import Action, Destroy, Hand, KillAttempt, Revoke, Tell
from miniworker.ahead import Ahead
from miniworker.attempts import KILL_CONTAINER_S, KILL_S, Attempts
from miniworker.builder import Builder
from miniworker.building import is_done
from miniworker.handed import Handed
from miniworker.opening import Line, Opened, Serving, meet, open_sandbox, specialise
from miniworker.sandbox import NoSandbox, Plan
from miniworker.several import Several
from miniworker.upstream import Upstream
from wire import jobs
from wire.about import about
from wire.codec import Message
from wire.errors import ProtocolError, WrongVersion
from wire.models import Spec

log = logging.getLogger(__name__)

#: The exit status that asks the zygote to sweep.
LEFT_BEHIND: Final = 3


class Miniworker:
    """One miniworker, from its first word to its end."""

    def __init__(self, spawn: jobs.Spawn, handed: Handed) -> None:
        self._spawn = spawn
        self._handed = handed
        self._folder = Path(spawn.folder)
        self._limits = agent.Limits()
        self._attempts: Attempts | Several = Attempts(spawn.miniworker)
        self._upstream = Upstream(spawn.endpoint)
        self._poll = select.poll()
        self._opened: Serving | None = None
        #: The connections that are listened to, by descriptor.
        self._channels: dict[int, Line] = {}
        #: Those of them that something waits to be sent on.
        self._writing: set[int] = set()
        self._spec: Spec | None = None
        #: Set while the bundle is built: the one attempt is the dependencies command.
        self._building: Builder | None = None
        self._ended = False
        #: Set if something is left that the zygote has to sweep.
        self.is_left = False

    def __repr__(self) -> str:
        return f"<Miniworker {self._spawn.miniworker}, {self._opened!r}, {self._attempts!r}>"

    @property
    def about(self) -> dict[str, Any]:
        """Return what a log line about its call bears; nothing while there is none."""
        head = self._attempts.head
        if head is None or self._building is not None:
            return about()
        return about(call=head.call, attempt=head.attempt, traceparent=head.traceparent)

    def run(self) -> None:
        """Serve until STOP, or until there is no sandbox any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._poll.register(self._upstream.fd, select.POLLIN)
        up = jobs.Up(miniworker=self._spawn.miniworker, pid=os.getpid(), packs=True)
        self._upstream.tell(up)
        try:
            while not self._ended:
                self._turn()
        finally:
            self._end()

    def _turn(self) -> None:
        self._read_worker()
        self._do(self._attempts.tick(time.monotonic()))
        if self._building is not None:
            self._tell_all(self._building.due(time.monotonic()))
        self._look()
        self._upstream.flush()
        if self._upstream.may_sleep and not self._ended:
            for fd, _ in self._poll.poll(self._wait_ms()):
                if fd != self._upstream.fd:
                    self._read_agent(fd)
            self._upstream.flush()

    def _wait_ms(self) -> float | None:
        building, opened = self._building, self._opened
        times = (
            self._attempts.wake_at(),
            building.wake_at() if building else None,
            opened.wake_at if opened else None,
        )
        at = min((time for time in times if time is not None), default=None)
        return None if at is None else max(0.0, at - time.monotonic()) * 1000 + 1

    # --- the worker --------------------------------------------------------------------

    def _read_worker(self) -> None:
        while not self._ended:
            try:
                messages = self._upstream.receive()
            except ProtocolError as error:
                self._drop(error)
                continue
            if messages is None:
                return
            for frames in messages:
                self._read(frames)

    def _read(self, frames: list[bytes]) -> None:
        if self._ended:
            return
        try:
            message, payload = jobs.TO_MINIWORKER.decode(frames)
        except WrongVersion as error:
            log.error("its worker is another release: %s (%s)", error.message, error.hint)
            self._ended = True
        except ProtocolError as error:
            self._drop(error)
        else:
            self._handle(message, payload)

    def _drop(self, error: ProtocolError) -> None:
        log.warning("dropped: %s", error)
        self._upstream.tell(jobs.Dropped(count=1))

    def _handle(self, message: Message, payload: bytes) -> None:
        now = time.monotonic()
        match message:
            case jobs.Job():
                self._take(message, payload, now)
            case jobs.Cancel():
                call, attempt, reason = message.call, message.attempt, message.reason
                self._do(self._attempts.cancel(call, attempt, reason, now))
            case jobs.Recall():
                self._do(self._attempts.recall())
            case jobs.Stop():
                self._ended = True
                self._take_back()
                self._do(self._attempts.stop(now))
            case _:
                self._make(message)

    def _make(self, message: Message) -> None:
        """Do what takes its time: nothing else is heard meanwhile."""
        match message:
            case jobs.Specialise():
                self._specialise(message)
            case jobs.Premake():
                self._premake(message)
            case jobs.Build():
                self._build(message)
            case jobs.Pull():
                self._upstream.tell(
                    drivers.pull(message, self._spawn.settings, self._told_percent)
                )

    def _take(self, job: jobs.Job, params: bytes, now: float) -> None:
        if self._spec is None or self._building is not None:
            self._upstream.tell(jobs.Returned(call=job.call, attempt=job.attempt))
            return
        self._do(self._attempts.job(job, params, now))

    def _tell_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._upstream.tell(message)

    def _told_percent(self, percent: int) -> None:
        self._upstream.tell(jobs.Pulling(percent=percent))

    # --- the sandbox -------------------------------------------------------------------

    def _specialise(self, message: jobs.Specialise) -> None:
        began = time.monotonic()
        plan = Plan(spec=message.spec, bundle=Path(message.bundle), folder=self._folder)
        try:
            if self._is_generic:
                self._put_in(plan, message.spec.run)
            else:
                self._open(plan, message.spec.run)
        except NoSandbox as error:
            self._break(error)
            return
        took_ms = (time.monotonic() - began) * 1000
        load_ms = self._opened.load_ms if self._opened else 0.0
        self._upstream.tell(jobs.Ready(key=message.spec.key, took_ms=took_ms, load_ms=load_ms))

    def _premake(self, message: jobs.Premake) -> None:
        began = time.monotonic()
        plan = Plan(
            spec=message.spec, bundle=Path(message.bundles), folder=self._folder, generic=True
        )
        try:
            if self._opened is not None:
                raise _has_one()
            driver = drivers.driver(self._spawn.driver)
            with self._noting_what_is_left():
                mark = self._handed.mark
                self._opened = meet(driver, plan, self._spawn.settings, self._limits, mark)
        except NoSandbox as error:
            self._break(error)
            return
        self._listen(self._opened)
        self._upstream.tell(jobs.Ready(key="", took_ms=(time.monotonic() - began) * 1000))

    @property
    def _is_generic(self) -> bool:
        return self._opened is not None and self._spec is None

    def _put_in(self, plan: Plan, run: str) -> None:
        """Make a generic sandbox that of a function: for good."""
        self._begin(plan)
        opened = self._opened
        if not isinstance(opened, Opened):
            raise NoSandbox("the generic sandbox is gone")
        # Until it is ready its words are not those of a call; the loop hears it after that.
        self._opened = None
        self._ignore(opened)
        with self._noting_what_is_left():
            specialise(opened, plan, run, self._limits)
        self._be_ready(plan, opened)

    def _begin(self, plan: Plan) -> None:
        if self._spec is not None:
            raise _has_one()
        self._spec = plan.spec

    def _be_ready(self, plan: Plan, opened: Serving) -> None:
        """Begin to decide as what serves there allows, and listen to it."""
        self._opened = opened
        decider: type[Attempts | Several] = Several if plan.is_server else Attempts
        is_handler = plan.spec.function.entry and not plan.build
        if is_handler and isinstance(opened, Opened) and opened.takes_ahead:
            decider = Ahead
        kill_s = KILL_CONTAINER_S if plan.is_image else KILL_S
        self._attempts = decider(self._spawn.miniworker, _memory_mib(plan), kill_s)
        self._listen(opened)

    def _build(self, message: jobs.Build) -> None:
        try:
            building = Builder(message, self._folder)
        except NoSandbox as error:
            self._upstream.tell(jobs.Built(reason=error.reason, fault=error.fault))
            return
        try:
            self._open(building.plan, building.command)
        except NoSandbox as error:
            building.close()
            self._upstream.tell(jobs.Built(reason=error.reason, fault=error.fault))
            return
        self._building = building
        self._poll.register(building.fileno(), select.POLLIN)
        job = jobs.Job(call=1, attempt=1, timeout_ms=message.timeout_ms)
        self._do(self._attempts.job(job, b"", time.monotonic()))

    def _open(self, plan: Plan, run: str) -> None:
        self._begin(plan)
        with self._noting_what_is_left():
            opened = self._serving(plan, run)
        self._be_ready(plan, opened)

    def _serving(self, plan: Plan, run: str) -> Serving:
        name, settings = self._spawn.driver, self._spawn.settings
        if plan.is_image or plan.is_server:
            return drivers.open_image(name, plan, settings, self._limits)
        driver, mark = drivers.driver(name), self._handed.mark
        return open_sandbox(driver, plan, settings, run, self._limits, mark)

    @contextmanager
    def _noting_what_is_left(self) -> Iterator[None]:
        try:
            yield
        except NoSandbox as error:
            self.is_left = error.is_left
            raise

    def _listen(self, opened: Serving) -> None:
        for channel in opened.channels:
            self._channels[channel.fileno()] = channel
            self._poll.register(channel.fileno(), select.POLLIN)

    def _ignore(self, opened: Serving) -> None:
        for channel in opened.channels:
            self._channels.pop(channel.fileno(), None)
            self._writing.discard(channel.fileno())
            self._poll.unregister(channel.fileno())

    def _break(self, error: NoSandbox) -> None:
        function = self._spec.function.function_name if self._spec else None
        log.warning("%s", error.reason.message, extra=about(function=function))
        self._upstream.tell(jobs.Broken(fault=error.fault, reason=error.reason, log=error.log))
        self._ended = True

    # --- the agent ---------------------------------------------------------------------

    def _read_agent(self, fd: int) -> None:
        if self._building is not None and fd == self._building.fileno():
            self._building.read()
            return
        channel = self._channels.get(fd)
        if channel is not None:
            channel.flush()
            self._hear(channel.read)
        self._watch()

    def _look(self) -> None:
        """Look where nothing would be heard."""
        opened = self._opened
        if opened and opened.wake_at is not None and time.monotonic() >= opened.wake_at:
            self._hear(opened.look)

    def _hear(self, said: Callable[[], list[tuple[agent.FromAgent, bytes]]]) -> None:
        try:
            self._hear_all(said)
        except ProtocolError as error:
            self._take_back()
            self._do(self._attempts.violated(error.message, time.monotonic()))

    def _hear_all(self, said: Callable[[], list[tuple[agent.FromAgent, bytes]]]) -> None:
        try:
            for message, body in said():
                self._heard(message, body)
        except EOFError:
            self._hear_last_words()
            if self._opened is not None:
                self._lost()

    def _hear_last_words(self) -> None:
        """Take an end that was said before the connections broke: it was first."""
        for message, body in self._opened.last_words() if self._opened else ():
            if isinstance(message, agent.Result | agent.Exit):
                # Nothing more is handed to what is no more.
                self._heard(msgspec.structs.replace(message, ready=False), body)

    def _heard(self, message: agent.FromAgent, body: bytes) -> None:
        now = time.monotonic()
        match message:
            case agent.Result():
                self._do(self._attempts.result(self._judged(message), body, now))
            case agent.Exit():
                self._do(self._attempts.exited(message, body, now))
            case agent.Ready():
                self._do(self._attempts.ready(now))
            case _:
                raise ProtocolError(f"the agent said {type(message).__name__} out of turn")

    def _judged(self, result: agent.Result) -> agent.Result:
        """Name the cause that the agent cannot see: the kernel killed for want of memory."""
        # Asked after every call, so that the kill of a child is not the next call's.
        killed = self._opened is not None and self._opened.out_of_memory()
        if not killed or result.status != "FAILED":
            return result
        return msgspec.structs.replace(result, status="OOM", code="oom")

    def _lost(self) -> None:
        """Answer for a sandbox that ended, or that had to be killed."""
        opened = self._opened
        begun = opened.begun() if opened is not None else None
        oom = self._close()
        self._do(self._attempts.gone(begun, oom, time.monotonic()))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(message, payload):
                    self._report(message, payload)
                case Hand():
                    self._hand(action)
                case Revoke(serial):
                    self._revoke(serial)
                case KillAttempt(serial):
                    self._kill(serial)
                case Destroy():
                    self._lost()

    def _hand(self, action: Hand) -> None:
        held, job = action.held, action.held.job
        env = {} if self._building else {"SKEP_CALL": str(job.call)}
        if job.traceparent:
            env["TRACEPARENT"] = job.traceparent
        if job.tracestate:
            env["TRACESTATE"] = job.tracestate
        call = agent.Call(
            call=job.call, attempt=held.serial, timeout_ms=job.timeout_ms, env=env
        )
        if self._opened is not None:
            self._handed.note(held.serial, revocable=isinstance(self._attempts, Ahead))
            self._hand_over(self._opened, call, held.params, ahead=action.ahead)
            self._watch()

    def _hand_over(
        self, opened: Serving, call: agent.Call, params: bytes, *, ahead: bool
    ) -> None:
        try:
            opened.hand(call, params)
        except NoSandbox as error:
            self._do(self._attempts.unstarted(error.fault, error.reason, time.monotonic()))
        except EOFError:
            self._lost()
        else:
            if not ahead:
                self._do(self._attempts.began(time.monotonic()))

    def _take_back(self) -> None:
        """Let nothing that the agent has begin any more."""
        if isinstance(self._attempts, Ahead):
            self._revoke(self._attempts.serial)

    def _revoke(self, serial: int) -> None:
        if isinstance(self._opened, Opened) and isinstance(self._attempts, Ahead):
            begun = self._opened.revoke(serial)
            self._do(self._attempts.revoked(begun, time.monotonic()))

    def _kill(self, serial: int) -> None:
        if self._opened is not None:
            self._opened.kill(serial)
            self._watch()

    def _watch(self) -> None:
        """Wake when the agent reads again, but only while something waits for that."""
        for fd, channel in self._channels.items():
            if channel.has_more_to_send != (fd in self._writing):
                self._writing ^= {fd}
                out = select.POLLOUT if fd in self._writing else 0
                self._poll.modify(fd, select.POLLIN | out)

    def _report(self, message: Message, payload: bytes) -> None:
        if self._building is not None:
            self._report_build(message, payload)
            return
        self._upstream.tell(message, payload)
        if isinstance(message, jobs.Broken):
            self._ended = True

    def _report_build(self, message: Message, payload: bytes) -> None:
        """Translate the end of the one attempt into BUILT; the bundle is sealed first."""
        building = self._building
        if building is None or isinstance(message, jobs.Heartbeat):
            return
        self._building = None
        failure = self._collect(message)
        self._close()
        self._poll.unregister(building.fileno())
        self._tell_all(building.end(message, payload, failure))

    def _collect(self, message: Message) -> NoSandbox | None:
        """Have the bundle here if it was built; return why it is not."""
        if not isinstance(self._opened, Opened) or not is_done(message):
            return None
        try:
            self._opened.collect()
        except NoSandbox as error:
            return error
        return None

    def _close(self) -> bool:
        """End the sandbox; return whether the kernel counted it out of memory."""
        opened, self._opened = self._opened, None
        if opened is None:
            return False
        self._ignore(opened)
        oom = opened.close()
        self.is_left = opened.is_left
        return oom

    def _end(self) -> None:
        self._upstream.flush()
        self._close()
        if self._building is not None:
            self._building.close()
        self._upstream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _has_one() -> NoSandbox:
    return NoSandbox("this miniworker has its sandbox already", hint="start another")


def _memory_mib(plan: Plan) -> int | None:
    # An installer has its own room, which its message need not name.
    return None if plan.build else plan.spec.function.memory


def run(spawn: jobs.Spawn, handed: Handed) -> int:
    """Be the miniworker that was ordered; return the exit status."""
    miniworker = Miniworker(spawn, handed)
    try:
        miniworker.run()
    except Exception:
        log.exception("%r failed", miniworker, extra=miniworker.about)
        return 1
    return LEFT_BEHIND if miniworker.is_left else 0
