"""The decider of a node: which sandbox gets which attempt, and how each attempt is answered.

Pure: messages and deaths are told with ``now``, orders come back. Every attempt that came in
gets exactly one answer, RETURNED or an end, except those that were only PREPAREd when the
session was lost: the api dispatches these again by itself. Nothing is handed to a miniworker
without START, and never twice.
"""

from __future__ import annotations

from wire.codec import Payload
from wire.messages import ColdBecause, Outcome, Start
from wire.models import Fault, Reason, Spec
from worker import actions as act
from worker.actions import Action, Id
from worker.attempts import Attempt
from worker.boxes import MAKING, Stage
from worker.placing import ANSWERED, Placing
from worker.pressure import Reading
from worker.speed import RECALL_S


class Broker(Placing):
    """All attempts of this node, and the pool that runs them."""

    def __repr__(self) -> str:
        return f"<Broker: {len(self.book.all)} attempts on {self.slots} slots, {self.pool}>"

    # --- what is asked of it ---

    @property
    def is_drained(self) -> bool:
        """Return whether nothing more comes in and nothing is left."""
        return self.is_draining and not self.book.all

    def has(self, id_: Id) -> bool:
        """Return whether an attempt is here already, PREPAREd or STARTed."""
        return id_ in self.book.all

    def running(self) -> list[Id]:
        """Return the attempts that were STARTed and have not ended."""
        return [one.id for one in self.book.all.values() if one.start]

    def places_ahead(self, now: float) -> dict[str, int]:
        """Return, by key, how many more attempts may be put behind running ones."""
        places: dict[str, int] = {}
        for box in self.pool.busy():
            if count := self._room(box, now):
                places[box.key] = places.get(box.key, 0) + count
        return places

    def watches(self, now: float) -> bool:
        """Return whether something stands, or may be put, behind a head that may run long."""
        return any(
            not box.is_server and (len(box.queue) > 1 or self._room(box, now))
            for box in self.pool.busy()
        )

    # --- from the api ---

    def prepare(self, id_: Id, key: str, now: float) -> list[Action]:
        """Get a sandbox ready for an attempt."""
        if id_ in self.book.all:
            return []
        if not self.free:
            return [act.SayReturned(id_)]
        one = Attempt(id_, key, came=now)
        box = self.pool.take(key, now) or self._beside(key, now)
        one.ahead = box is not None and bool(box.queue)
        self.book.add(one, lends=True)
        if box:
            return self._give(box, one, now)
        return self._wait(one, now)

    def start(self, start: Start, payload: Payload, now: float) -> list[Action]:
        """Begin an attempt, PREPAREd or not: where a sandbox is free, or behind another."""
        id_ = (start.call, start.attempt)
        one = self.book.all.get(id_)
        if one is None:
            return self._start_new(id_, start, payload, now)
        if one.start:
            return []
        if not one.is_called and not one.ahead and not self.spare:
            # Its slot was lent when the api sent this, and what runs there goes on.
            return self._drop(one, now, say=act.SayReturned(id_))
        self.book.reclaim(one)
        fetch = self._permit(one, start, payload, now)
        if one.box:
            return fetch + self._go(one, now)
        if box := self.pool.take(one.key, now):
            self.book.unwait(one)
            one.made = None
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

    def params(self, id_: Id, params: Payload, now: float) -> list[Action]:
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
            elif len(box.queue) > 1 and box.recalled != box.queue[0]:
                # What waits behind its head may begin elsewhere at once.
                box.recalled = box.queue[0]
                orders.append(act.Recall(box.name))
        return orders

    def resume(self) -> None:
        """Take calls again."""
        self.is_draining = False

    def abandon(self, why: str, now: float) -> list[Action]:
        """End all that runs, whatever becomes of it: the node leaves."""
        orders: list[Action] = []
        for box in self.pool:
            orders += self.exited(box.name, why, now)
        return orders

    # --- from miniworkers and what makes them ---

    def up(self, name: str, now: float) -> list[Action]:
        """A miniworker listens."""
        return self.pool.up(name, now)

    def bundle(
        self, name: str, spec: Spec, bundle: str, now: float, steps: tuple[act.Step, ...] = ()
    ) -> list[Action]:
        """The bundle for a sandbox is there; ``steps`` are what that took."""
        return self.pool.bundle(name, spec, bundle, now, steps)

    def progress(self, name: str, text: str) -> list[Action]:
        """What a sandbox needs is on its way: whoever may get it is told."""
        box = self.pool.sandboxes.get(name)
        waiting = self.book.waiting(box.key) if box else []
        return [act.SayProgress(one.id, text) for one in waiting if one.start is None]

    def no_bundle(
        self, name: str, fault: Fault, reason: Reason, log: str, now: float
    ) -> list[Action]:
        """There is no code for a sandbox, so there is no use for it."""
        box = self.pool.sandboxes.get(name)
        if box is None or box.stage is not Stage.STARTING:
            return []
        self.keeping.failed(box, now)
        key = box.key
        leave = self.pool.unclaim if box.is_claimed and not self.is_draining else self.pool.stop
        return leave(box, now) + self._uncovered(key, fault, reason, log, now)

    def ready(self, name: str, now: float, load_ms: float = 0.0) -> list[Action]:
        """A sandbox is specialised: whoever waits first gets it."""
        box = self.pool.sandboxes.get(name)
        if box is None or box.stage is not Stage.SPECIALISING:
            return []
        self.pool.made(box, load_ms, now)
        self.keeping.went_well(box)
        self.setbacks.went_well()
        return self._free(box, now, made=True) + self._begin(now)

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
        payload: Payload,
        now: float,
        ran_ms: float | None = None,
    ) -> list[Action]:
        """An attempt ended in its sandbox, which says how long the function itself ran."""
        one = self._sent_to(name, id_)
        if one is None:
            return []
        box = self.pool.sandboxes.get(name)
        was_slow = box is not None and box.recalled == id_
        self.speeds.saw(one.key, outcome, ran_ms, was_slow=was_slow)
        if box and box.is_server and outcome.reason and outcome.reason.code != ANSWERED:
            box.is_spent = True
        return self._finish(one, one.end(outcome, sizes, payload), now)

    def broken(
        self, name: str, fault: Fault, reason: Reason, now: float, log: str = ""
    ) -> list[Action]:
        """A sandbox is no more; its miniworker had ended all that had begun before.

        What it was given and could not begin, because of this node, goes to another one.
        """
        box = self.pool.sandboxes.get(name)
        # Its end may have been seen before these last words: they alone say whose fault it was.
        if box is None or (box.stage is Stage.STOPPING and not box.failed):
            return []
        was_making = box.stage in MAKING or box.failed
        box.failed = False
        if was_making or box.is_generic:
            self.keeping.failed(box, now)
        orders = self.pool.stop(box, now, None if was_making else ColdBecause.DIED)
        if fault is Fault.NODE and not was_making:
            self.setbacks.failed(now)
        orders += self._handed_back(box, fault, reason, log, now)
        orders += self._displaced(box, now)
        if was_making and box.is_claimed and fault is Fault.NODE:
            orders += self._covered_again(box.key, now)
        elif was_making and not box.is_generic:
            orders += self._not_made(box.key, fault, reason, log, now)
        return orders + self._begin(now)

    def dying(self, name: str, now: float) -> list[Action]:
        """A miniworker has ended, but what it said last may not have been read yet."""
        box = self.pool.sandboxes.get(name)
        if box:
            self.pool.doom(box, now)
        return []

    def exited(
        self, name: str, why: str, now: float, handed: int | None = None
    ) -> list[Action]:
        """A miniworker has ended, however it came to it.

        ``handed`` is how many attempts had gone on to its agent; None if nobody knows.
        """
        box = self.pool.gone(name)
        if box is None:
            return []
        was_making = box.stage in MAKING or box.failed
        if was_making or (box.is_generic and box.stage is Stage.IDLE):
            self.keeping.failed(box, now)
        orders: list[Action] = [act.DropBundle(name)]
        for one in self.book.held(box):
            if one.sent:
                orders += self._finish(one, self._fallen(one, box, why, handed, now), now)
                box.queue.remove(one.id)
        orders += self._displaced(box, now)
        if was_making and box.is_claimed:
            orders += self._covered_again(box.key, now)
        elif was_making and not box.is_generic:
            reason = Reason(code="no_sandbox", message=f"no sandbox could be made: {why}")
            orders += self._not_made(box.key, Fault.NODE, reason, "", now)
        return orders + self._begin(now)

    def recall(self, now: float) -> list[Action]:
        """Take back what waits behind heads that turned out slow: others may be free."""
        orders: list[Action] = []
        for box in self.pool.busy():
            if len(box.queue) < 2 or box.recalled == box.queue[0]:
                continue
            if self._is_slow(box, now, RECALL_S):
                box.recalled = box.queue[0]
                # Its mean still says that it is fast, and would put others behind the next.
                self.speeds.slow(box.key)
                orders.append(act.Recall(box.name))
        return orders

    def pressed(self, reading: Reading, now: float) -> list[Action]:
        """Look at the memory there is."""
        return self.keeping.pressed(reading, now)

    def tick(self, now: float) -> list[Action]:
        """Kill what is overdue; let the pool age, and make what should wait."""
        orders = self.pool.tick(now) + self._begin(now) + self._give_up(now)
        if not self.is_draining:
            orders += self.keeping.due(now)
        for box in self.pool:
            for one in self.book.running(box):
                if box.stage is Stage.BUSY:
                    orders += self._judge(box, one, now)
        return orders
