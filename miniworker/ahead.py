"""What a miniworker decides where its agent takes several attempts at once: pure.

The agent runs them in order, one at a time, and looks at its mark before each: what is beyond
the mark has not begun, and can be *revoked*, so that it never will. So all that holds of what
waits here holds of what waits there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from miniworker import agent
from miniworker.actions import Action, Hand, Held, Revoke
from miniworker.attempts import KILL_S, RELOAD_S, Attempts, Ending, is_of, returned
from wire.errors import ProtocolError
from wire.models import Reason, Status

#: How many attempts, and bytes of them, may be with the agent behind the head: as much as
#: its connection holds, so that it is never this process that keeps what was handed over.
MOST_BEHIND: Final = 15
MOST_BYTES: Final = 32 << 10


class Ahead(Attempts):
    """The attempts of one sandbox, of which the agent has the next ones too."""

    def __init__(
        self, miniworker: str, memory_mib: int | None = None, kill_s: float = KILL_S
    ) -> None:
        super().__init__(miniworker, memory_mib, kill_s)
        #: What the agent has behind the head; while it loads its function, behind nothing.
        self._behind: deque[Held] = deque()
        self._behind_bytes = 0
        #: Those of them that are to be ended once they are the head.
        self._doomed: dict[int, Reason] = {}
        #: Heads whose ordered end was overtaken by the result of what followed, by serial.
        self._parked: dict[int, tuple[Held, Ending, float]] = {}
        #: The last attempt that was taken back from the agent.
        self._revoked = 0
        #: How many READYs are still to come; less than 0: so many overtook their results.
        self._loads = 0

    def __repr__(self) -> str:
        return f"<{super().__repr__()[1:-1]}, {len(self._behind)} handed over>"

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs and nothing waits."""
        return super().is_idle and not self._behind and not self._parked

    def cancel(self, call: int, attempt: int, reason: Reason, now: float) -> list[Action]:
        """End one attempt; one that the agent has is taken back, if it has not begun."""
        for held in self._behind:
            if is_of(held, call, attempt):
                self._doomed[held.serial] = reason
                return self._revoke()
        return super().cancel(call, attempt, reason, now)

    def recall(self) -> list[Action]:
        """Hand back all that has not begun, wherever it waits."""
        return [*super().recall(), *self._revoke()]

    def revoked(self, begun: int, now: float) -> list[Action]:
        """Nothing that was handed over begins any more but what is up to ``begun``."""
        actions: list[Action] = []
        while self._behind and self._behind[-1].serial > begun:
            actions.insert(0, returned(self._pop(last=True).job))
        head = self._head
        # One that is to be killed is told of by its end.
        if head is not None and head.serial > begun and self._ending is None:
            self._head = None
            actions.insert(0, returned(head.job))
        return [*actions, *self._next(now)]

    def result(self, result: agent.Result, body: bytes, now: float) -> list[Action]:
        """The agent says how the head ended."""
        self._overtake(result.attempt, now)
        return super().result(result, body, now)

    def ready(self, now: float) -> list[Action]:
        """The agent has loaded its function again.

        Raises:
            ProtocolError: it has nothing that it could have loaded it for.
        """
        self._loads -= 1
        if -self._loads > len(self._behind) + (self._head is not None):
            raise ProtocolError("the agent said Ready out of turn")
        if self._loads <= 0:
            self._ready_by = None
        return self._next(now)

    def exited(self, exit_: agent.Exit, body: bytes, now: float) -> list[Action]:
        """The agent has killed the head, or has not begun what was revoked."""
        if exit_.attempt in self._parked:
            return self._unpark(exit_, body, now)
        self._overtake(exit_.attempt, now)
        head = self._head
        if exit_.began or exit_.attempt > self._revoked:
            return super().exited(exit_, body, now)
        if head is None or head.serial != exit_.attempt:
            # It was handed back when it was revoked.
            return []
        if self._ending is not None:
            return super().exited(exit_, body, now)
        self._head = None
        return [returned(head.job), *self._next(now)]

    def gone(self, mark: int | None, oom: bool, now: float) -> list[Action]:
        """The sandbox is dead, and what it had begun with it."""
        if self._closed:
            return []
        parked, behind = self._end_parked(now), self._take_all()
        actions = super().gone(mark, oom, now)
        self._began = now
        return [*parked, *self._fallen(behind, mark, now), *actions]

    def _fallen(self, behind: list[Held], mark: int | None, now: float) -> list[Action]:
        return [
            self._lost(held, now) if mark is None or held.serial <= mark else returned(held.job)
            for held in behind
        ]

    def _close(self, ending: tuple[Status, Reason] | None, now: float) -> list[Action]:
        actions = [*self._end_parked(now), *super()._close(ending, now)]
        self._began = now
        # What could be taken back was, so this has begun.
        return [*actions, *(self._lost(held, now) for held in self._take_all())]

    def _lost(self, held: Held, now: float) -> Action:
        reason = Reason(code="sandbox_lost", message="the sandbox died while the call ran")
        return self._done(held, self._outcome(held, Status.LOST, reason, now), [b""] * 3)

    def _take_all(self) -> list[Held]:
        behind = list(self._behind)
        self._behind.clear()
        self._behind_bytes = 0
        return behind

    def _revoke(self) -> list[Action]:
        if not self._behind:
            return []
        # What was taken back may still be on its way to the agent.
        self._revoked = max(self._revoked, self._behind[-1].serial)
        return [Revoke(self._revoked)]

    def _overtake(self, serial: int, now: float) -> None:
        """Take a word of the next one for that of what was before, on the other connection.

        That is READY, or the exit of a head that was to be ended: had it had a result, that
        would have come first.
        """
        if not self._behind or self._behind[0].serial != serial:
            return
        if self._head is not None and self._ending is not None:
            self._parked[self._head.serial] = self._head, self._ending, self._began
            self._head = None
        if self._head is None:
            self._promote(now)

    def _unpark(self, exit_: agent.Exit, body: bytes, now: float) -> list[Action]:
        """Take the exit of a head that was overtaken as if it still were the head."""
        parts = agent.cut(body, exit_.sizes)
        held, ending, began = self._parked.pop(exit_.attempt)
        self._may_load(exit_.ready, now)
        if not exit_.began and ending.status is Status.CANCELLED:
            return [returned(held.job), *self._next(now)]
        end = self._parked_end(held, ending, began, [b"", *parts], exit_.omitted, now)
        return [end, *self._next(now)]

    def _parked_end(
        self,
        held: Held,
        ending: Ending,
        began: float,
        parts: list[bytes],
        omitted: int,
        now: float,
    ) -> Action:
        head, before, self._began = self._head, self._began, began
        outcome = self._outcome(held, ending.status, ending.reason, now, omitted=omitted)
        end = self._done(held, outcome, parts)
        self._head, self._began = head, before
        return end

    def _end_parked(self, now: float) -> list[Action]:
        parked = list(self._parked.values())
        self._parked.clear()
        return [self._parked_end(*each, [b""] * 3, 0, now) for each in parked]

    def _may_load(self, ready: bool, now: float) -> None:
        self._loads += not ready
        if self._loads <= 0:
            self._ready_by = None
        elif not ready:
            self._ready_by = now + RELOAD_S

    def _next(self, now: float) -> list[Action]:
        if self._ready_by is not None:
            return []
        actions: list[Action] = []
        if self._head is None and self._behind:
            actions += self._promote(now)
        if self._head is None:
            actions += super()._next(now)
        return [*actions, *self._hand_ahead()]

    def _promote(self, now: float) -> list[Action]:
        head = self._head = self._pop()
        self._ending = None
        self._start_clock(head, now)
        reason = self._doomed.pop(head.serial, None)
        return self._end(head, Status.CANCELLED, reason, now) if reason else []

    def _hand_ahead(self) -> Iterator[Action]:
        while self._waiting and self._head is not None and self._ending is None:
            size = len(self._waiting[0].params)
            if len(self._behind) == MOST_BEHIND or self._behind_bytes + size > MOST_BYTES:
                return
            held = self._waiting.popleft()
            self._behind.append(held)
            self._behind_bytes += size
            yield Hand(held, ahead=True)

    def _pop(self, *, last: bool = False) -> Held:
        held = self._behind.pop() if last else self._behind.popleft()
        self._behind_bytes -= len(held.params)
        if last:
            self._doomed.pop(held.serial, None)
        return held
