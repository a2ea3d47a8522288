"""The attempts on this node, and how one ends: pure book-keeping for the broker."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from wire.codec import Payload
from wire.messages import Made, Outcome, Start
from wire.models import Reason, Status, Warmth
from worker.actions import End, Id
from worker.boxes import Sandbox


@dataclass(slots=True)
class Attempt:
    """One attempt on this node, from PREPARE or START to its answer."""

    id: Id
    key: str
    #: The permission to begin, once it has come.
    start: Start | None = None
    #: None until they are here.
    params: Payload | None = None
    #: When it came here, and when its START did.
    came: float = 0.0
    arrived: float = 0.0
    #: The sandbox that it has; empty while it waits for one.
    box: str = ""
    ready_said: bool = False
    #: Why and how its sandbox was made, if it had to be made for it.
    made: Made | None = None
    #: Whether it stands behind a running one, and so takes no slot.
    ahead: bool = False
    #: Whether a miniworker was given it: only then it may have begun.
    sent: bool = False
    #: Its place among all that this miniworker was given, 1, 2, 3 ...
    serial: int = 0
    sent_at: float = 0.0
    head_at: float = 0.0
    cancelled: Reason | None = None
    cancelled_at: float = 0.0

    @property
    def permission(self) -> Start:
        """Return the START; only what has one may be asked."""
        if self.start is None:
            raise ValueError(f"attempt {self.id} was not STARTed")
        return self.start

    @property
    def is_called(self) -> bool:
        """Return whether it has its slot for itself: it may begin, or is about to hear it."""
        return self.ready_said or self.start is not None

    @property
    def fetches(self) -> bool:
        """Return whether its params are still on their way."""
        return self.start is not None and self.params is None

    def permit(self, start: Start, payload: Payload, now: float) -> None:
        """Note the permission; params that did not come with it come later."""
        self.start, self.arrived = start, now
        if len(payload) == start.size:
            self.params = payload

    def end(self, outcome: Outcome, sizes: tuple[int, int, int], payload: Payload) -> End:
        """Return its end, completed by what only the worker knows."""
        whole = msgspec.structs.replace(
            outcome,
            waited_ms=outcome.waited_ms + max(0.0, self.sent_at - self.arrived) * 1000,
            start=Warmth.COLD if self.made else Warmth.WARM,
            miniworker=self.box,
            made=self.made,
        )
        start = self.permission
        return End(
            self.id,
            whole,
            sizes,
            payload,
            start.record,
            self.params or b"",
            self.key,
            start.traceparent,
        )

    def lost(self, box: Sandbox, why: str, now: float) -> End:
        """Return its end when its miniworker died: the mark that was kept died with it."""
        status = Status.LOST
        reason = Reason(code="sandbox_lost", message=f"the sandbox was lost: {why}")
        if self.cancelled:
            status, reason = Status.CANCELLED, self.cancelled
        elif box.verdict and box.verdict[0] == self.id:
            _, status, reason = box.verdict
        ran_ms = 0.0 if self.ahead and not box.is_server else (now - self.head_at) * 1000
        return self.end(
            Outcome(status=status, reason=reason, duration_ms=ran_ms), (0, 0, 0), b""
        )


class Book:
    """All attempts by id, and those that wait for a sandbox by key, in order."""

    def __init__(self) -> None:
        self.all: dict[Id, Attempt] = {}
        self._ahead = 0
        self._waiting: dict[str, deque[Attempt]] = {}
        #: Those that were only PREPAREd and not called READY, in order.
        self._lenders: dict[Id, Attempt] = {}

    def __repr__(self) -> str:
        return f"<Book of {len(self.all)} attempts, {self._ahead} ahead>"

    @property
    def in_use(self) -> int:
        """Return the slots that attempts have."""
        return len(self.all) - self._ahead

    @property
    def ahead(self) -> int:
        """Return how many attempts stand behind running ones."""
        return self._ahead

    @property
    def lending(self) -> int:
        """Return how many slots attempts have that cannot begin yet."""
        return sum(not one.ahead for one in self._lenders.values()) if self._lenders else 0

    def lenders(self) -> list[Attempt]:
        """Return those attempts, first come first."""
        return list(self._lenders.values())

    def reclaim(self, one: Attempt) -> None:
        """Let an attempt have its slot for itself; one that has it is fine."""
        self._lenders.pop(one.id, None)

    def add(self, one: Attempt, *, lends: bool = False) -> None:
        """Enter an attempt, which may lend its slot until it is ready."""
        self.all[one.id] = one
        self._ahead += one.ahead
        if lends:
            self._lenders[one.id] = one

    def remove(self, one: Attempt) -> None:
        """Strike an attempt out, wherever it stands."""
        del self.all[one.id]
        self.reclaim(one)
        self._ahead -= one.ahead
        self.unwait(one)

    def promote(self, one: Attempt, now: float) -> None:
        """Let an attempt that stood behind another be the head: it takes a slot."""
        if one.ahead:
            one.ahead = False
            one.head_at = now
            self._ahead -= 1

    def wait(self, one: Attempt) -> int:
        """Queue for a sandbox; return how many of the key wait now."""
        queue = self._waiting.setdefault(one.key, deque())
        queue.append(one)
        return len(queue)

    def unwait(self, one: Attempt) -> None:
        """Leave the queue; one that does not wait is fine."""
        queue = self._waiting.get(one.key)
        if queue and one in queue:
            queue.remove(one)
            if not queue:
                del self._waiting[one.key]

    def waiting(self, key: str) -> list[Attempt]:
        """Return who waits for a sandbox of this key, first come first."""
        return list(self._waiting.get(key, ()))

    def next(self, key: str) -> Attempt | None:
        """Take out who gets the next sandbox of this key: STARTed ones go first."""
        queue = self._waiting.get(key)
        if not queue:
            return None
        one = next((one for one in queue if one.start), queue[0])
        self.unwait(one)
        return one

    def running(self, box: Sandbox) -> list[Attempt]:
        """Return those that a sandbox is at: the head, or all that a server has."""
        held = self.held(box) if box.is_server else self.held(box)[:1]
        return [one for one in held if one.sent]

    def held(self, box: Sandbox) -> list[Attempt]:
        """Return the attempts that a sandbox has, the head first."""
        return [self.all[id_] for id_ in box.queue if id_ in self.all]
