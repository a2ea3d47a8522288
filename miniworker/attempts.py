"""What a miniworker decides about its attempts: pure, events and ``now`` in, actions out.

One attempt is the *head*: the sandbox has it, and its timeout runs from that moment. The
others wait behind it, have not begun, and can always be handed back. An attempt gets exactly
one answer, whatever crosses on the way: a result, an ending that was ordered (time-out,
cancel), the death of the sandbox, or RETURNED.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from miniworker import agent
from miniworker.actions import Action, Destroy, Hand, Held, KillAttempt, Tell
from wire import jobs
from wire.errors import ProtocolError
from wire.messages import Outcome
from wire.models import Fault, Reason, Status

#: How long an agent may take to kill an attempt before its sandbox is killed.
KILL_S: Final = 1.0
#: How long it may take to load its function again: below what the worker allows a
#: miniworker beyond a timeout, so that what waits is handed back and not killed.
RELOAD_S: Final = 3.0
#: An engine may take longer to kill a container; the worker allows this much.
KILL_CONTAINER_S: Final = 4.0
HEARTBEAT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How the head will have ended once nothing of it runs; ``until`` bounds the wait."""

    status: Status
    reason: Reason
    until: float


class Attempts:
    """The attempts of one sandbox, in order."""

    def __init__(
        self,
        miniworker: str,
        memory_mib: int | None = None,
        kill_s: float = KILL_S,
        serials: Iterator[int] | None = None,
    ) -> None:
        self._miniworker = miniworker
        self._kill_s = kill_s
        self._memory_mib = memory_mib
        self._waiting: deque[Held] = deque()
        self._head: Held | None = None
        self._began = 0.0
        self._deadline = 0.0
        self._beat = 0.0
        self._ending: Ending | None = None
        #: Set while the agent loads its function again, and nothing can be handed to it.
        self._ready_by: float | None = None
        #: Its READY overtook the result that it belongs to, on the other connection.
        self._early = False
        self._serials = serials or count(1)
        #: That of the newest.
        self.serial = 0
        self._closed = False

    def __repr__(self) -> str:
        head = f"{self._head.job.call}.{self._head.job.attempt}" if self._head else "nothing"
        return f"<Attempts: {head} runs, {len(self._waiting)} wait>"

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs and nothing waits."""
        return self._head is None and not self._waiting

    @property
    def head(self) -> jobs.Job | None:
        """Return what the sandbox has, if it has something."""
        return self._head.job if self._head is not None else None

    def job(self, job: jobs.Job, params: bytes, now: float) -> list[Action]:
        """Take an attempt: it runs now, or waits behind the head."""
        if self._closed:
            return [returned(job)]
        self.serial = next(self._serials)
        self._waiting.append(Held(self.serial, job, params, now))
        return self._next(now)

    def cancel(self, call: int, attempt: int, reason: Reason, now: float) -> list[Action]:
        """End one attempt: what waits is handed back, the head is killed."""
        for held in self._waiting:
            if is_of(held, call, attempt):
                self._waiting.remove(held)
                return [returned(held.job)]
        if self._head is None or not is_of(self._head, call, attempt) or self._ending:
            return []
        return self._end(self._head, Status.CANCELLED, reason, now)

    def recall(self) -> list[Action]:
        """Hand back all that waits: the head turned out slow."""
        actions: list[Action] = [returned(held.job) for held in self._waiting]
        self._waiting.clear()
        return actions

    def began(self, now: float) -> list[Action]:
        """The head runs from now on: what it took to hand it over does not count."""
        if self._head is not None:
            self._start_clock(self._head, now)
        return []

    def unstarted(self, fault: Fault, reason: Reason, now: float) -> list[Action]:
        """The head was not begun, though it was handed over.

        Of the function it is an end. Of the node the sandbox is given up with all it has, for
        the worker to hand back with this reason.
        """
        held = self._head
        if held is None:
            return []
        if fault is Fault.FUNCTION:
            outcome = self._outcome(held, Status.FAILED, reason, now)
            return [self._done(held, outcome, [b"", b"", b""]), *self._next(now)]
        self._closed = True
        self._head = None
        self._waiting.clear()
        return [Destroy(), Tell(jobs.Broken(fault=fault, reason=reason))]

    def result(self, result: agent.Result, body: bytes, now: float) -> list[Action]:
        """The agent says how the head ended; this wins over an ending still under way.

        Raises:
            ProtocolError: it is not about the head, or contradicts itself.
        """
        held = self._expected(result.attempt)
        parts = agent.cut(body, result.sizes)
        # Built first: a result that is refused must leave the head in its place.
        outcome = self._outcome(
            held,
            Status(result.status),
            self._reason(result),
            now,
            omitted=result.omitted,
            peak_memory=result.peak_memory,
            result_type=result.result_type,
        )
        self._may_load(result.ready, now)
        ran_ms = None if result.ran_us is None else result.ran_us / 1000
        return [self._done(held, outcome, parts, ran_ms), *self._next(now)]

    def ready(self, now: float) -> list[Action]:
        """The agent has loaded its function again.

        Raises:
            ProtocolError: it was ready all the time.
        """
        if self._ready_by is None and (self._head is None or self._early):
            raise ProtocolError("the agent said Ready out of turn")
        self._early = self._ready_by is None
        self._ready_by = None
        return self._next(now)

    def exited(self, exit_: agent.Exit, body: bytes, now: float) -> list[Action]:
        """The agent has killed the head as it was told.

        Raises:
            ProtocolError: nobody asked for that.
        """
        held = self._expected(exit_.attempt)
        ending = self._ending
        if ending is None:
            raise ProtocolError("the agent ended an attempt that nobody told it to end")
        parts = agent.cut(body, exit_.sizes)
        self._may_load(exit_.ready, now)
        if not exit_.began and ending.status is Status.CANCELLED:
            self._head = None
            return [returned(held.job), *self._next(now)]
        outcome = self._outcome(held, ending.status, ending.reason, now, omitted=exit_.omitted)
        return [self._done(held, outcome, [b"", *parts]), *self._next(now)]

    def tick(self, now: float) -> list[Action]:
        """Let time pass: time out the head, give up on a deaf agent, beat."""
        held = self._head
        if self._closed:
            return []
        if held is None:
            late = self._ready_by is not None and now >= self._ready_by
            return [Destroy()] if late else []
        if self._ending is None and now >= self._deadline:
            return self._end(held, Status.TIMEOUT, _too_slow(held.job), now)
        if self._ending is not None and now >= self._ending.until:
            return [Destroy()]
        if now >= self._beat:
            self._beat = now + HEARTBEAT_S
            return [Tell(jobs.Heartbeat(call=held.job.call, attempt=held.job.attempt))]
        return []

    def wake_at(self) -> float | None:
        """Return when ``tick`` has something to do next; None if only an event will."""
        if self._closed:
            return None
        if self._head is None:
            return self._ready_by
        limit = self._ending.until if self._ending else self._deadline
        return min(limit, self._beat)

    def gone(self, mark: int | None, oom: bool, now: float) -> list[Action]:
        """The sandbox is dead; ``mark`` is the last attempt begun, None if nobody knows."""
        if self._closed:
            return []
        ending = self._gone_ending(mark, oom)
        return [*self._close(ending, now), _broken(ending[1] if ending else _GONE)]

    def violated(self, message: str, now: float) -> list[Action]:
        """The agent broke the protocol: its bytes are hostile, so the sandbox ends."""
        reason = Reason(code="protocol_violation", message=message)
        return [Destroy(), *self._close((Status.FAILED, reason), now), _broken(reason)]

    def stop(self, now: float) -> list[Action]:
        """Hand back what waits and end the sandbox; the head, if any, is lost with it."""
        reason = Reason(code="sandbox_lost", message="the miniworker was stopped meanwhile")
        return [Destroy(), *self._close((Status.LOST, reason), now)]

    def _next(self, now: float) -> list[Action]:
        if self._head is not None or not self._waiting or self._ready_by is not None:
            return []
        self._head = self._waiting.popleft()
        self._ending = None
        self._start_clock(self._head, now)
        return [Hand(self._head)]

    def _start_clock(self, head: Held, now: float) -> None:
        self._began = now
        self._deadline = now + head.job.timeout_ms / 1000
        self._beat = now + HEARTBEAT_S

    def _reason(self, result: agent.Result) -> Reason | None:
        if not result.code:
            return None
        if result.code == "oom":
            return self._out_of_memory()
        return Reason(code=result.code, message=result.message[: agent.MESSAGE_CHARS])

    def _out_of_memory(self) -> Reason:
        """Return the same sentence whoever noticed it, with the limit."""
        limit = f" of {self._memory_mib} MiB" if self._memory_mib else ""
        return Reason(code="oom", message=f"it reached its memory limit{limit}")

    def _may_load(self, ready: bool, now: float) -> None:
        self._ready_by = None if ready or self._early else now + RELOAD_S
        self._early = False

    def _end(self, head: Held, status: Status, reason: Reason, now: float) -> list[Action]:
        self._ending = Ending(status, reason, now + self._kill_s)
        return [KillAttempt(head.serial)]

    def _expected(self, serial: int) -> Held:
        if self._head is None or self._head.serial != serial:
            raise ProtocolError(f"the agent answered attempt {serial}, which does not run")
        return self._head

    def _gone_ending(self, mark: int | None, oom: bool) -> tuple[Status, Reason] | None:
        if self._ending is not None:
            return self._ending.status, self._ending.reason
        if self._head is not None and mark is not None and mark < self._head.serial:
            return None
        if oom:
            return Status.OOM, self._out_of_memory()
        lost = "the sandbox died while the call ran"
        return Status.LOST, Reason(code="sandbox_lost", message=lost)

    def _close(self, ending: tuple[Status, Reason] | None, now: float) -> list[Action]:
        """Answer all there is; without an ending the head has not begun and goes back."""
        self._closed = True
        actions: list[Action] = []
        if self._head is not None and ending is not None:
            outcome = self._outcome(self._head, *ending, now)
            actions.append(self._done(self._head, outcome, [b"", b"", b""]))
        elif self._head is not None:
            actions.append(returned(self._head.job))
        actions.extend(returned(held.job) for held in self._waiting)
        self._head = None
        self._waiting.clear()
        return actions

    def _outcome(
        self, held: Held, status: Status, reason: Reason | None, now: float, **more: object
    ) -> Outcome:
        make: Callable[..., Outcome] = Outcome
        try:
            return make(
                status=status,
                reason=reason,
                waited_ms=(self._began - held.arrived) * 1000,
                duration_ms=max(0.0, now - self._began) * 1000,
                miniworker=self._miniworker,
                **more,
            )
        except ValueError as error:
            raise ProtocolError(f"the agent contradicts itself: {error}") from error

    def _done(
        self, held: Held, outcome: Outcome, parts: list[bytes], ran_ms: float | None = None
    ) -> Tell:
        self._head = None
        result, stdout, stderr = parts
        message = jobs.Done(
            call=held.job.call,
            attempt=held.job.attempt,
            outcome=outcome,
            sizes=(len(result), len(stdout), len(stderr)),
            ran_ms=ran_ms,
        )
        # What is mostly all of it need not be copied for that.
        return Tell(message, b"".join(parts) if stdout or stderr else result)


_GONE: Final = Reason(code="sandbox_lost", message="the sandbox died before the call began")


def is_of(held: Held, call: int, attempt: int) -> bool:
    """Return whether it is this attempt that is held."""
    return (held.job.call, held.job.attempt) == (call, attempt)


def returned(job: jobs.Job) -> Tell:
    """Return what hands an attempt back."""
    return Tell(jobs.Returned(call=job.call, attempt=job.attempt))


def _broken(reason: Reason) -> Tell:
    return Tell(jobs.Broken(fault=Fault.NONE, reason=reason))


def _too_slow(job: jobs.Job) -> Reason:
    return Reason(code="timeout", message=f"it ran longer than {job.timeout_ms / 1000:g} s")
