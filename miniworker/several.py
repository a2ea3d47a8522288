"""What a miniworker decides about attempts that run at the same time: pure.

Each is decided about as if it were alone (``attempts``); what concerns the sandbox concerns
all. How many there may be is the worker's to say: none waits here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count

from miniworker import agent
from miniworker.actions import Action, Destroy, Tell
from miniworker.attempts import KILL_S, Attempts
from wire import jobs
from wire.errors import ProtocolError
from wire.models import Fault, Reason


class Several:
    """The attempts of one sandbox, each with a clock of its own."""

    def __init__(
        self, miniworker: str, memory_mib: int | None = None, kill_s: float = KILL_S
    ) -> None:
        self._new = partial(Attempts, miniworker, memory_mib, kill_s, count(1))
        #: By serial, the newest last.
        self._each: dict[int, Attempts] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Several: {len(self._each)} run>"

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs."""
        return not self._each

    @property
    def head(self) -> jobs.Job | None:
        """Return the one that runs, if it is one."""
        return next(iter(self._each.values())).head if len(self._each) == 1 else None

    def job(self, job: jobs.Job, params: bytes, now: float) -> list[Action]:
        """Take an attempt: it runs now."""
        if self._closed:
            return [Tell(jobs.Returned(call=job.call, attempt=job.attempt))]
        one = self._new()
        actions = one.job(job, params, now)
        self._each[one.serial] = one
        return actions

    def cancel(self, call: int, attempt: int, reason: Reason, now: float) -> list[Action]:
        """End one attempt."""
        return self._all(lambda one: one.cancel(call, attempt, reason, now))

    def recall(self) -> list[Action]:
        """Hand nothing back: nothing waits."""
        return []

    def began(self, now: float) -> list[Action]:
        """Return nothing: handing one over took no time."""
        del now
        return []

    def unstarted(self, fault: Fault, reason: Reason, now: float) -> list[Action]:
        """The newest was not begun, though it was handed over.

        Of the node the sandbox is given up: those that run in it have died.
        """
        newest = next(reversed(self._each.values()))
        if fault is Fault.FUNCTION:
            return self._after(newest.unstarted(fault, reason, now))
        return self._close(
            lambda one: (
                one.unstarted(fault, reason, now)
                if one is newest
                else one.gone(None, oom=False, now=now)
            )
        )

    def result(self, result: agent.Result, body: bytes, now: float) -> list[Action]:
        """One has ended.

        Raises:
            ProtocolError: it is none of those that run, or contradicts itself.
        """
        return self._after(self._named(result.attempt).result(result, body, now))

    def exited(self, exit_: agent.Exit, body: bytes, now: float) -> list[Action]:
        """One was ended as it was told.

        Raises:
            ProtocolError: nobody asked for that.
        """
        return self._after(self._named(exit_.attempt).exited(exit_, body, now))

    def ready(self, now: float) -> list[Action]:
        """Refuse it: nothing is ever loaded again.

        Raises:
            ProtocolError: always.
        """
        del now
        raise ProtocolError("Ready came out of turn: nothing is loaded again")

    def tick(self, now: float) -> list[Action]:
        """Let time pass."""
        return self._all(lambda one: one.tick(now))

    def wake_at(self) -> float | None:
        """Return when ``tick`` has something to do next; None if only an event will."""
        times = (one.wake_at() for one in self._each.values())
        return min((time for time in times if time is not None), default=None)

    def gone(self, mark: int | None, oom: bool, now: float) -> list[Action]:
        """The sandbox is dead, and each with it."""
        return self._close(lambda one: one.gone(mark, oom, now))

    def violated(self, message: str, now: float) -> list[Action]:
        """The engine sent what is none of its output: the sandbox ends."""
        return self._close(lambda one: one.violated(message, now))

    def stop(self, now: float) -> list[Action]:
        """End the sandbox; what runs is lost with it."""
        return self._close(lambda one: one.stop(now))

    def _named(self, serial: int) -> Attempts:
        if serial not in self._each:
            raise ProtocolError(f"attempt {serial} ended, which does not run")
        return self._each[serial]

    def _all(self, decide: Callable[[Attempts], list[Action]]) -> list[Action]:
        actions = [action for one in self._each.values() for action in decide(one)]
        return self._after(actions)

    def _after(self, actions: list[Action]) -> list[Action]:
        """Forget those that ended."""
        self._each = {serial: one for serial, one in self._each.items() if not one.is_idle}
        return actions

    def _close(self, decide: Callable[[Attempts], list[Action]]) -> list[Action]:
        """Have all end, and the sandbox once; without any it has an end all the same."""
        if self._closed:
            return []
        self._closed = True
        each = [*self._each.values()] or [self._new()]
        actions = [action for one in each for action in decide(one)]
        self._each.clear()
        destroy = [action for action in actions if isinstance(action, Destroy)][:1]
        broken = [action for action in actions if _is_broken(action)][-1:]
        ends = [a for a in actions if not isinstance(a, Destroy) and not _is_broken(a)]
        return [*destroy, *ends, *broken]


def _is_broken(action: Action) -> bool:
    return isinstance(action, Tell) and isinstance(action.message, jobs.Broken)
