"""The decider of a node: which sandbox gets which attempt, and how each attempt is answered.

Pure: messages and deaths are told with ``now``, orders come back. Every attempt that came in
gets exactly one answer, RETURNED or an end, except those that were only PREPAREd when the
session was lost: the api dispatches these again by itself. Nothing is handed to a miniworker
without START, and never twice.
"""

from __future__ import annotations

from typing import Final

from wire.messages import INLINE_BYTES, Outcome, Start
from wire.models import Fault, Reason, Spec, Status
from worker import actions as act
from worker.actions import Action, Id
from worker.attempts import Attempt, Book
from worker.pool import MAKING, Pool, Sandbox, Stage
from worker.speed import Speeds, is_long

#: The miniworker enforces a timeout; it is killed when it is this late with the end.
OVERDUE_S: Final = 5.0
CANCEL_S: Final = 2.0


class Broker:
    """All attempts of this node, and the pool that runs them."""

    def __init__(self, pool: Pool, slots: int) -> None:
        self.pool = pool
        self.speeds = Speeds()
        self.book = Book()
        self.slots = slots
        self.is_draining = False

    def __repr__(self) -> str:
        return f"<Broker: {len(self.book.all)} attempts on {self.slots} slots, {self.pool}>"

    # --- what is asked of it ---

    @property
    def free(self) -> int:
        """Return the slots in which something may begin now."""
        return 0 if self.is_draining else max(0, self.slots - self.book.in_use)

    @property
    def is_drained(self) -> bool:
        """Return whether nothing more comes in and nothing is left."""
        return self.is_draining and not self.book.all

    def running(self) -> list[Id]:
        """Return the attempts that were STARTed and have not ended."""
        return [one.id for one in self.book.all.values() if one.start]

    def places_ahead(self, now: float) -> dict[str, int]:
        """Return, by key, how many more attempts may be put behind running ones."""
        places: dict[str, int] = {}
        for box in self.pool:
            if count := self._room(box, now):
                places[box.key] = places.get(box.key, 0) + count
        return places

    # --- from the api ---

    def prepare(self, id_: Id, key: str, now: float) -> list[Action]:
        """Get a sandbox ready for an attempt."""
        if id_ in self.book.all:
            return []
        if not self.free:
            return [act.SayReturned(id_)]
        one = Attempt(id_, key)
        self.book.add(one)
        box = self.pool.take(key, now)
        if box:
            return self._give(box, one, now)
        return self._wait(one, now)

    def start(self, start: Start, payload: bytes, now: float) -> list[Action]:
        """Begin an attempt, PREPAREd or not: where a sandbox is free, or behind another."""
        id_ = (start.call, start.attempt)
        one = self.book.all.get(id_)
        if one is None:
            return self._start_new(id_, start, payload, now)
        if one.start:
            return []
        fetch = self._permit(one, start, payload, now)
        if one.box:
            return fetch + self._go(one, now)
        if box := self.pool.take(one.key, now):
            self.book.unwait(one)
            one.cold = False
            return fetch + self._give(box, one, now)
        return fetch

    def cancel(self, id_: Id, reason: Reason, now: float) -> list[Action]:
        """End an attempt; one that has not begun is RETURNED."""
        one = self.book.all.get(id_)
        if one is None:
            return [act.SayReturned(id_)]
        if not one.sent:
            return self._drop(one, now, say=act.SayReturned(id_))
        if one.cancelled is None:
            one.cancelled, one.cancelled_at = reason, now
        return [act.SendCancel(one.box, id_, reason)]

    def find(self, call: int) -> list[Id]:
        """Return the attempts of a call that are here."""
        return [id_ for id_ in self.book.all if id_[0] == call]

    def params(self, id_: Id, params: bytes, now: float) -> list[Action]:
        """The params that were fetched for an attempt are here."""
        one = self.book.all.get(id_)
        if one is None or one.params is not None:
            return []
        one.params = params
        return self._go(one, now)

    def no_params(self, id_: Id, reason: Reason, now: float) -> list[Action]:
        """The params of an attempt cannot be had."""
        one = self.book.all.get(id_)
        if one is None or one.sent:
            return []
        return self._drop(one, now, say=act.SayReturned(id_, Fault.NODE, reason, owed=True))

    def session_lost(self, now: float, *, slept: bool) -> list[Action]:
        """Drop what was only PREPAREd; if this node slept too long, all that has not begun.

        In that case the api may have given up on what was STARTed, so that beginning it now
        would be too late; it is told so in the next session.
        """
        orders: list[Action] = []
        for one in list(self.book.all.values()):
            if one.start is None:
                orders += self._drop(one, now, say=None)
            elif slept and not one.sent:
                orders += self._drop(one, now, say=act.SayReturned(one.id, owed=True))
        return orders

    def drain(self, now: float) -> list[Action]:
        """Take nothing more; hand back what has not begun, stop what is idle."""
        self.is_draining = True
        orders: list[Action] = []
        for one in list(self.book.all.values()):
            if not one.sent:
                say = act.SayReturned(one.id, owed=one.start is not None)
                orders += self._drop(one, now, say=say)
        for box in self.pool:
            if not box.queue:
                orders += self.pool.stop(box, now)
        return orders

    # --- from miniworkers and what makes them ---

    def up(self, name: str, now: float) -> list[Action]:
        """A miniworker listens."""
        return self.pool.up(name, now)

    def bundle(self, name: str, spec: Spec, bundle: str, now: float) -> list[Action]:
        """The bundle for a sandbox is there."""
        return self.pool.bundle(name, spec, bundle, now)

    def no_bundle(
        self, name: str, fault: Fault, reason: Reason, log: str, now: float
    ) -> list[Action]:
        """There is no code for a sandbox, so there is no use for it."""
        box = self.pool.sandboxes.get(name)
        if box is None or box.stage is not Stage.STARTING:
            return []
        orders = self.pool.stop(box, now)
        return orders + self._uncovered(box.key, fault, reason, log, now)

    def ready(self, name: str, now: float) -> list[Action]:
        """A sandbox is specialised: whoever waits first gets it."""
        box = self.pool.sandboxes.get(name)
        if box is None or box.stage is not Stage.SPECIALISING:
            return []
        return self._free(box, now, made=True)

    def returned(self, name: str, id_: Id, now: float) -> list[Action]:
        """A miniworker never began an attempt that it was given."""
        one = self._sent_to(name, id_)
        if one is None:
            return []
        return self._finish(one, act.SayReturned(id_, owed=True), now)

    def done(
        self,
        name: str,
        id_: Id,
        outcome: Outcome,
        sizes: tuple[int, int, int],
        payload: bytes,
        now: float,
    ) -> list[Action]:
        """An attempt ended in its sandbox."""
        one = self._sent_to(name, id_)
        if one is None:
            return []
        self.speeds.saw(one.key, outcome)
        return self._finish(one, one.end(outcome, sizes, payload), now)

    def broken(self, name: str, fault: Fault, reason: Reason, now: float) -> list[Action]:
        """A sandbox is no more; its miniworker had ended all that had begun before."""
        box = self.pool.sandboxes.get(name)
        if box is None or box.stage is Stage.STOPPING:
            return []
        was_making = box.stage in MAKING
        orders = self.pool.stop(box, now)
        for one in self.book.held(box):
            if one.sent:
                orders += self._finish(one, act.SayReturned(one.id, owed=True), now)
        orders += self._displaced(box, now)
        if was_making:
            orders += self._uncovered(box.key, fault, reason, "", now)
        return orders

    def dying(self, name: str, now: float) -> list[Action]:
        """A miniworker has ended, but what it said last may not have been read yet."""
        box = self.pool.sandboxes.get(name)
        if box:
            self.pool.doom(box, now)
        return []

    def exited(self, name: str, why: str, now: float) -> list[Action]:
        """A miniworker has ended, however it came to it."""
        box = self.pool.gone(name)
        if box is None:
            return []
        was_making = box.stage in MAKING or box.failed
        orders: list[Action] = [act.DropBundle(name)]
        for one in self.book.held(box):
            if one.sent:
                orders += self._finish(one, one.lost(box, why, now), now)
                box.queue.remove(one.id)
        orders += self._displaced(box, now)
        if was_making:
            reason = Reason(code="no_sandbox", message=f"no sandbox could be made: {why}")
            orders += self._uncovered(box.key, Fault.NODE, reason, "", now)
        return orders

    def tick(self, now: float) -> list[Action]:
        """Kill what is overdue; let the pool age."""
        orders = self.pool.tick(now)
        for box in self.pool:
            head = self.book.all.get(box.queue[0]) if box.queue else None
            if head and head.sent and box.stage is Stage.BUSY:
                orders += self._judge(box, head, now)
        return orders

    # --- placing ---

    def _start_new(self, id_: Id, start: Start, payload: bytes, now: float) -> list[Action]:
        one = Attempt(id_, start.key)
        box = self.pool.take(start.key, now) if self.free else None
        if box:
            self.book.add(one)
            return self._permit(one, start, payload, now) + self._give(box, one, now)
        behind = None if self.is_draining else self._place_ahead(start, now)
        if behind is None:
            return [act.SayReturned(id_)]
        one.ahead = True
        self.book.add(one)
        self._permit(one, start, payload, now)
        return self._give(behind, one, now)

    def _place_ahead(self, start: Start, now: float) -> Sandbox | None:
        """Return the busy sandbox with the most room; only params at hand may wait there."""
        if start.size > INLINE_BYTES:
            return None
        boxes = [box for box in self.pool if box.key == start.key and self._room(box, now)]
        return max(boxes, key=lambda box: self._room(box, now), default=None)

    def _room(self, box: Sandbox, now: float) -> int:
        if self.is_draining or box.stage is not Stage.BUSY or not box.queue:
            return 0
        head = self.book.all[box.queue[0]]
        if head.start is None or not head.sent or head.cancelled:
            return 0
        if is_long(now - head.head_at, head.start.timeout_ms):
            return 0
        return max(0, self.speeds.held(box.key) - len(box.queue))

    def _permit(self, one: Attempt, start: Start, payload: bytes, now: float) -> list[Action]:
        one.permit(start, payload, now)
        return [act.FetchParams(one.id, start.size)] if one.fetches else []

    def _wait(self, one: Attempt, now: float) -> list[Action]:
        """Queue for the next sandbox of the key; have one made for each that waits."""
        if self.book.wait(one) > self.pool.making(one.key):
            return self.pool.make(one.key, now)
        return []

    def _give(self, box: Sandbox, one: Attempt, now: float) -> list[Action]:
        one.box = box.name
        box.queue.append(one.id)
        if one.start:
            return self._go(one, now)
        if one.ready_said:
            return []
        one.ready_said = True
        return [act.SayReady(one.id)]

    def _go(self, one: Attempt, now: float) -> list[Action]:
        """Hand an attempt over, once it has permission, params and a sandbox."""
        if one.sent or one.start is None or one.params is None or not one.box:
            return []
        if self.pool.sandboxes[one.box].stage is Stage.STOPPING:
            # It is dying; once it is gone the attempt waits for another.
            return []
        one.sent = True
        one.sent_at = one.head_at = now
        start = one.start
        return [
            act.SendJob(one.box, one.id, start.timeout_ms, start.traceparent, one.params),
        ]

    def _free(self, box: Sandbox, now: float, *, made: bool = False) -> list[Action]:
        """Give a sandbox that has nothing to do to whoever waits."""
        if box.stage is Stage.STOPPING:
            return []
        if self.is_draining:
            return self.pool.stop(box, now)
        one = self.book.next(box.key)
        if one is None:
            return self.pool.rest(box, now)
        one.cold = made
        box.enter(Stage.BUSY, now)
        return self._give(box, one, now)

    # --- ending ---

    def _sent_to(self, name: str, id_: Id) -> Attempt | None:
        one = self.book.all.get(id_)
        return one if one and one.sent and one.box == name else None

    def _forget(self, one: Attempt) -> Sandbox | None:
        self.book.remove(one)
        box = self.pool.sandboxes.get(one.box)
        if box and one.id in box.queue:
            box.queue.remove(one.id)
        return box

    def _drop(self, one: Attempt, now: float, say: act.SayReturned | None) -> list[Action]:
        """Forget an attempt that has not begun; its sandbox is free for another."""
        orders: list[Action] = [say] if say else []
        if one.fetches:
            orders.append(act.ForgetParams(one.id))
        return orders + self._after(self._forget(one), now)

    def _finish(self, one: Attempt, answer: Action, now: float) -> list[Action]:
        return [answer, *self._after(self._forget(one), now)]

    def _after(self, box: Sandbox | None, now: float) -> list[Action]:
        """Let the next attempt of a sandbox be its head, or free the sandbox."""
        if box is None:
            return []
        if not box.queue:
            return self._free(box, now)
        self.book.promote(self.book.all[box.queue[0]], now)
        return []

    def _displaced(self, box: Sandbox, now: float) -> list[Action]:
        """Let attempts whose sandbox died before they were sent wait for another."""
        orders: list[Action] = []
        for one in self.book.held(box):
            box.queue.remove(one.id)
            one.box = ""
            orders += self._wait(one, now)
        return orders

    def _uncovered(
        self, key: str, fault: Fault, reason: Reason, log: str, now: float
    ) -> list[Action]:
        """Return the attempts that waited for a sandbox that will not be."""
        waiting = self.book.waiting(key)
        orders: list[Action] = []
        for one in waiting[: max(0, len(waiting) - self.pool.making(key))]:
            say = act.SayReturned(one.id, fault, reason, log, owed=one.start is not None)
            orders += self._drop(one, now, say=say)
        return orders

    def _judge(self, box: Sandbox, head: Attempt, now: float) -> list[Action]:
        """Kill a miniworker that is late with an end."""
        limit_s = head.permission.timeout_ms / 1000
        cancelled = (one for one in self.book.held(box) if one.cancelled)
        if any(now - one.cancelled_at > CANCEL_S for one in cancelled):
            return self._kill(box, "it did not answer a cancel", now)
        if now - head.head_at > limit_s + OVERDUE_S:
            reason = Reason(code="timeout", message=f"it ran longer than {limit_s:g} s")
            box.verdict = (head.id, Status.TIMEOUT, reason)
            return self._kill(box, "it did not end an attempt in time", now)
        return []

    def _kill(self, box: Sandbox, why: str, now: float) -> list[Action]:
        # From here on it gets nothing more; what it holds is answered when it has ended.
        self.pool.doom(box, now)
        return [act.Kill(box.name, why)]
