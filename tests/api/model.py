"""A worker as dispatch sees it, without a socket: honest, slow, and mortal on request."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from api.live import Live
from wire.codec import Message
from wire.messages import (
    Cancel,
    Credit,
    Hello,
    Outcome,
    Prepare,
    Ready,
    Result,
    Returned,
    Start,
    Warm,
)
from wire.models import Function, Reason, Runtime, Spec, Status

CANCELLED = Reason(code="cancelled", message="it was cancelled")
SANDBOX_LOST = Reason(code="sandbox_lost", message="its sandbox died")


def spec(
    name: str = "dice",
    *,
    idempotent: bool = False,
    retries: int = 0,
    at_once: int | None = None,
) -> Spec:
    return Spec(
        function=Function(
            function_name=name,
            runtime_name="python",
            revision=1,
            idempotent=idempotent,
            retries=retries,
            max_concurrency=at_once,
        ),
        runtime=Runtime(name="python", image="python", path="/ws", revision=1),
    )


def live(num: int, *, sync: bool = False, now: float = 0.0, of: Spec | None = None) -> Live:
    return Live(
        num=num,
        uuid=f"uuid-{num}",
        spec=of or spec(),
        params=b"{}",
        timeout_ms=5000,
        max_wait_ms=600_000,
        sync=sync,
        accepted=now,
        accepted_ms=1_700_000_000_000,
    )


@dataclass
class ModelWorker:
    """Holds what a worker holds; counts what it is asked to do without room for it."""

    name: str
    slots: int = 2
    life: int = 1
    session: int = 0
    seen: int = 0
    ends: int = 0
    overdrawn: int = 0
    #: Slots that were lent, and that who was READY has back: a START may have crossed that.
    taken_back: int = 0
    #: Attempts being prepared, and those whose sandbox is ready (each holds a slot).
    making: list[tuple[int, int, str]] = field(default_factory=list)
    ready: dict[tuple[int, int], str] = field(default_factory=dict)
    running: dict[tuple[int, int], str] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    inbox: deque[Message] = field(default_factory=deque)
    outbox: deque[Message] = field(default_factory=deque)
    #: Ended attempts whose result is not recorded: sent again in every session.
    kept: dict[tuple[int, int], Outcome] = field(default_factory=dict)
    begun: list[tuple[int, int]] = field(default_factory=list)
    #: Sandboxes that are made for nobody any more: they become idle.
    spare: list[str] = field(default_factory=list)

    @property
    def boot(self) -> str:
        return f"boot{self.life}"

    def hello(self) -> Hello:
        return Hello(
            node_id=f"id-{self.name}",
            boot=self.boot,
            name=self.name,
            pid=1,
            version="0",
            slots=self.slots,
            sandbox="fake",
            isolation="none",
            running=(*self.running, *self.kept),
        )

    def join(self, session: int) -> None:
        """A new session: nothing of the old one arrives any more."""
        self.session, self.seen, self.ends, self.taken_back = session, 0, 0, 0
        self.inbox.clear()
        self.outbox.clear()
        for _, _, key in self.making:
            self.spare.append(key)
        self.making.clear()
        for key in self.ready.values():
            self._idle(key)
        self.ready.clear()
        for (num, attempt), outcome in self.kept.items():
            self._send_end(num, attempt, outcome)
        self.credit()

    def die(self) -> None:
        """Killed: everything in it is gone, the next life has another boot id."""
        self.life += 1
        for things in (self.making, self.ready, self.running, self.idle, self.kept, self.spare):
            things.clear()

    @property
    def free(self) -> int:
        held = len(self.making) + len(self.ready) + len(self.running) + len(self.spare)
        return max(0, self.slots - held)

    @property
    def room(self) -> int:
        """Return the slots in which nothing runs: those that wait lend theirs."""
        return self.slots - len(self.ready) - len(self.running)

    def credit(self) -> None:
        warm = tuple(Warm(key, count) for key, count in self.idle.items())
        free, lent = self.free, self.room - self.free
        self.outbox.append(
            Credit(session=self.session, seen=self.seen, free=free, lent=lent, warm=warm)
        )

    def read(self) -> None:
        """Take one message of the api."""
        message = self.inbox.popleft()
        if isinstance(message, Prepare):
            self._prepare(message)
        elif isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Cancel):
            self._cancel(message)
        self.credit()

    def made(self) -> None:
        """One sandbox that was being made is ready."""
        if self.spare:
            self._idle(self.spare.pop())
        elif self.making and self.room:
            num, attempt, key = self.making.pop(0)
            self.ready[num, attempt] = key
            self.taken_back += 1
            self.outbox.append(Ready(session=self.session, call=num, attempt=attempt))
        self.credit()

    def end(self, status: Status = Status.DONE) -> None:
        """The oldest running attempt ends."""
        if self.running:
            num, attempt = next(iter(self.running))
            self._end(num, attempt, status, None if status is Status.DONE else SANDBOX_LOST)

    def recorded(self, upto: int) -> None:
        for place in [place for place, number in self._numbers.items() if number <= upto]:
            self.kept.pop(place, None)

    _numbers: dict[tuple[int, int], int] = field(default_factory=dict)

    def _idle(self, key: str) -> None:
        self.idle[key] = self.idle.get(key, 0) + 1

    def _prepare(self, message: Prepare) -> None:
        self.seen += 1
        self.overdrawn += self.free == 0
        self.making.append((message.call, message.attempt, message.key))

    def _start(self, message: Start) -> None:
        self.seen += 1
        place, key = (message.call, message.attempt), message.key
        making = (*place, key)
        if place in self.ready:
            del self.ready[place]
        elif self.idle.get(key) and not self.room and self.taken_back:
            self.taken_back -= 1
            if making in self.making:
                self.making.remove(making)
                self.spare.append(key)
            self.outbox.append(Returned(session=self.session, call=place[0], attempt=place[1]))
            return
        elif self.idle.get(key) and self.room:
            self.idle[key] -= 1
            if making in self.making:
                self.making.remove(making)
                self.spare.append(key)
        else:
            self.overdrawn += 1
            return
        self.running[place] = key
        self.begun.append(place)

    def _cancel(self, message: Cancel) -> None:
        place = (message.call, message.attempt)
        if place in self.running:
            self._end(*place, Status.CANCELLED, CANCELLED)
            return
        if place in self.ready:
            self._idle(self.ready.pop(place))
        for one in [one for one in self.making if one[:2] == place]:
            self.making.remove(one)
            self.spare.append(one[2])
        if place not in self.kept:
            self.outbox.append(Returned(session=self.session, call=place[0], attempt=place[1]))

    def _end(self, num: int, attempt: int, status: Status, reason: Reason | None) -> None:
        key = self.running.pop((num, attempt))
        if status is not Status.LOST:
            self._idle(key)
        outcome = Outcome(status=status, reason=reason)
        self.kept[num, attempt] = outcome
        self._send_end(num, attempt, outcome)
        self.credit()

    def _send_end(self, num: int, attempt: int, outcome: Outcome) -> None:
        self.ends += 1
        self._numbers[num, attempt] = self.ends
        self.outbox.append(
            Result(
                session=self.session,
                call=num,
                attempt=attempt,
                outcome=outcome,
                number=self.ends,
            )
        )
