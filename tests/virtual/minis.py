"""Miniworkers in virtual time: one sandbox each, its head running, the others behind it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from tests.virtual.script import Ending, Trouble
from wire.messages import Outcome
from wire.models import Reason, Status
from worker import actions as act

if TYPE_CHECKING:
    from tests.virtual.node import Node

#: How long a kill takes; how long the worker listens for the last words of a dead one.
KILL_S: Final = 0.005
LAST_WORDS_S: Final = 0.05
_LATE: Final = Reason(code="timeout", message="it ran longer than it may")


class Mini:
    """One miniworker: it goes on when its worker stands still, and dies with it."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self.name = name
        self._waiting: deque[act.SendJob] = deque()
        self._head: act.SendJob | None = None
        #: Counts heads: an end that was set for an earlier one means nothing.
        self._handed = 0
        self.is_dead = False

    def __repr__(self) -> str:
        return f"<Mini {self.name}, {len(self._waiting)} wait>"

    def order(self, order: act.ForMini) -> None:
        """Do what the worker says."""
        match order:
            case act.Premake() | act.Specialise():
                self._make(order)
            case act.SendJob():
                self._waiting.append(order)
                self._next()
            case act.SendCancel():
                self._cancel(order)
            case act.Recall():
                self._recall()
            case act.Stop():
                self.die("it left")

    def die(self, why: str) -> None:
        """End; what it had handed on has begun."""
        if self.is_dead:
            return
        self.is_dead = True
        name, handed = self.name, self._handed
        self._node.hears(lambda broker, now: broker.dying(name, now))
        self._node.hears_later(
            LAST_WORDS_S, lambda broker, now: broker.exited(name, why, now, handed)
        )

    def _make(self, order: act.Premake | act.Specialise) -> None:
        made = self._node.script.make(order.spec)
        if isinstance(made, Trouble):
            self._say_broken(made)
        else:
            self._node.timeline.after(made, self._ready)

    def _ready(self) -> None:
        if not self.is_dead:
            self._node.hears(lambda broker, now: broker.ready(self.name, now))

    def _say_broken(self, trouble: Trouble) -> None:
        name = self.name
        self._node.hears(
            lambda broker, now: broker.broken(name, trouble.fault, trouble.reason, now)
        )
        self.die("it could not be made")

    def _next(self) -> None:
        if self._head is not None or not self._waiting or self.is_dead:
            return
        head = self._head = self._waiting.popleft()
        self._handed += 1
        key = self._node.key_of(head.id)
        ending = self._node.script.begin(head.id, key, self._node.boot)
        limit_s = head.timeout_ms / 1000
        if ending.seconds > limit_s:
            ending = Ending(limit_s, Status.TIMEOUT, _LATE)
        self._end_later(self._handed, ending)

    def _end_later(self, serial: int, ending: Ending) -> None:
        def end() -> None:
            if not self.is_dead and self._head is not None and self._handed == serial:
                self._end(ending)

        self._node.timeline.after(ending.seconds, end)

    def _end(self, ending: Ending) -> None:
        head, self._head = self._head, None
        assert head is not None
        name, call = self.name, head.id
        took_ms = ending.seconds * 1000
        outcome = Outcome(
            status=ending.status, reason=ending.reason, duration_ms=took_ms, result_type="json"
        )
        result = b"%d" % call[0] if ending.status is Status.DONE else b""
        sizes = (len(result), 0, 0)
        self._node.hears(
            lambda broker, now: broker.done(name, call, outcome, sizes, result, now, took_ms)
        )
        self._next()

    def _cancel(self, order: act.SendCancel) -> None:
        for job in self._waiting:
            if job.id == order.id:
                self._waiting.remove(job)
                self._say_returned(job)
                return
        if self._head is not None and self._head.id == order.id:
            self._end_later(self._handed, Ending(KILL_S, Status.CANCELLED, order.reason))

    def _recall(self) -> None:
        while self._waiting:
            self._say_returned(self._waiting.popleft())

    def _say_returned(self, job: act.SendJob) -> None:
        name, id_ = self.name, job.id
        self._node.hears(lambda broker, now: broker.returned(name, id_, now))
