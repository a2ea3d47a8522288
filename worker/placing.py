"""How the broker places attempts and ends them: the steps that its events are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wire.codec import Payload
from wire.messages import ColdBecause, Start
from wire.models import Fault, Reason, Status
from worker import actions as act
from worker.actions import Action, Id
from worker.attempts import Attempt, Book
from worker.boxes import Sandbox, Stage
from worker.keeping import Keeping
from worker.pool import Pool
from worker.setbacks import Setbacks
from worker.speed import LONG_HEAD_S, RECALL_S, Speeds, is_long

#: The miniworker enforces a timeout; it is killed when it is this late with the end.
OVERDUE_S: Final = 5.0
CANCEL_S: Final = 2.0
#: What an engine may take to start the container of a call, which is no part of its timeout.
START_CONTAINER_S: Final = 60.0
#: The reason of a call that a server has answered, though not well: it has done with it.
ANSWERED: Final = "http_status"
#: What a miniworker says where only one runtime's agent is missing.
NO_AGENT: Final = "no_agent"
#: What one says that cannot reach into a container, as the contract ``http`` needs it.
NO_REACH: Final = "no_reach"
#: So long an attempt whose sandbox is ready waits for its slot: another node may have one.
HELD_S: Final = 0.5


class Placing:
    """Attempts, sandboxes, and the moves between them."""

    def __init__(self, pool: Pool, slots: int) -> None:
        self.pool = pool
        self.speeds = Speeds()
        self.book = Book()
        self.setbacks = Setbacks()
        self.slots = slots
        self.is_draining = False
        self.keeping = Keeping(pool)

    @property
    def free(self) -> int:
        """Return the slots that nobody has: a sandbox may be made for one."""
        return 0 if self.is_draining else max(0, self.slots - self.book.in_use)

    @property
    def spare(self) -> int:
        """Return the slots in which nothing runs: an idle sandbox may begin in one.

        An attempt that waits for its sandbox lends its slot, and has it back before READY.
        """
        in_use = self.book.in_use - self.book.lending
        return 0 if self.is_draining else max(0, self.slots - in_use)

    def granted(self, now: float) -> tuple[int, int]:
        """Return the slots that the api may be told of: free ones, and others that are lent.

        Where sandboxes cannot be made now, those that are there go on being used.
        """
        if not (self.setbacks.count or self.book.lending):
            return self.free, 0
        free = self.setbacks.allowed(self.free, now)
        return free, self.spare - free

    def withheld(self, now: float) -> str:
        """Return why fewer are granted than are free, in words; empty if none are withheld."""
        return self.setbacks.words if self.granted(now)[0] < self.free else ""

    # --- placing ---

    def _start_new(self, id_: Id, start: Start, payload: Payload, now: float) -> list[Action]:
        one = Attempt(id_, start.key, came=now)
        # What it spends first: else another START would miss what was granted for it.
        box = self._place_ahead(start, payload, now) if start.ahead else None
        one.ahead = box is not None
        if box is None and self.spare:
            box = self.pool.take(start.key, now)
        if box is None:
            box = self._place_ahead(start, payload, now)
            one.ahead = True
        if box is None:
            return [act.SayReturned(id_)]
        self.book.add(one)
        return self._permit(one, start, payload, now) + self._give(box, one, now)

    def _place_ahead(self, start: Start, payload: Payload, now: float) -> Sandbox | None:
        """Return the busy sandbox with most room; only params at hand wait behind a call."""
        is_here = len(payload) == start.size
        busy = (box for box in self.pool.busy() if box.key == start.key)
        # A place that was granted is there until what has one is recalled.
        limit_s = RECALL_S if start.ahead else LONG_HEAD_S
        may = (box for box in busy if box.is_server or is_here)
        return self._roomiest(may, now, limit_s)

    def _beside(self, key: str, now: float) -> Sandbox | None:
        """Return the server at work with the most room for a call at the same time."""
        busy = (box for box in self.pool.busy() if box.key == key)
        return self._roomiest((box for box in busy if box.is_server), now)

    def _roomiest(
        self, boxes: Iterable[Sandbox], now: float, limit_s: float = LONG_HEAD_S
    ) -> Sandbox | None:
        rooms = [(self._room(box, now, limit_s), box) for box in boxes]
        room, box = max(rooms, key=lambda each: each[0], default=(0, None))
        return box if room else None

    def _room(self, box: Sandbox, now: float, limit_s: float = LONG_HEAD_S) -> int:
        if self.is_draining or box.stage is not Stage.BUSY or not box.queue or box.is_for_one:
            return 0
        head = self.book.all[box.queue[0]]
        if box.is_server:
            return box.beside if head.is_called else 0
        if not head.sent or head.cancelled or self._is_slow(box, now, limit_s):
            return 0
        return max(0, self.speeds.held(box.key) - len(box.queue))

    def _is_slow(self, box: Sandbox, now: float, limit_s: float) -> bool:
        """Return whether the head of a sandbox runs for long already, and others behind it."""
        head = self.book.all[box.queue[0]]
        if box.is_server or box.stage is not Stage.BUSY or head.start is None or not head.sent:
            return False
        return is_long(now - head.head_at, head.start.timeout_ms, limit_s)

    def _permit(self, one: Attempt, start: Start, payload: Payload, now: float) -> list[Action]:
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
        return self._call_up()

    def _give_up(self, now: float) -> list[Action]:
        """Hand those back whose slot was lent for too long; their sandboxes wait."""
        orders: list[Action] = []
        for one in self.book.lenders():
            box = self.pool.sandboxes.get(one.box)
            if box is not None and box.stage is Stage.BUSY and now - box.since > HELD_S:
                orders += self._drop(one, now, say=act.SayReturned(one.id))
        return orders

    def _call_up(self) -> list[Action]:
        """Say READY for those whose sandboxes are, as far as their slots are not in use."""
        orders: list[Action] = []
        for one in self.book.lenders():
            box = self.pool.sandboxes.get(one.box)
            is_there = box is not None and box.stage is not Stage.STOPPING
            if is_there and (one.ahead or self.spare):
                self.book.reclaim(one)
                one.ready_said = True
                orders.append(act.SayReady(one.id))
        return orders

    def _go(self, one: Attempt, now: float) -> list[Action]:
        """Hand an attempt over, once it has permission, params and a sandbox."""
        if one.sent or one.start is None or one.params is None or not one.box:
            return []
        box = self.pool.sandboxes[one.box]
        if box.stage is Stage.STOPPING:
            # It is dying; once it is gone the attempt waits for another.
            return []
        one.sent = True
        one.sent_at = one.head_at = now
        box.given += 1
        one.serial = box.given
        start = one.start
        return [
            act.SendJob(
                one.box,
                one.id,
                start.timeout_ms,
                start.traceparent,
                start.tracestate,
                one.params,
            ),
        ]

    def _free(self, box: Sandbox, now: float, *, made: bool = False) -> list[Action]:
        """Give a sandbox that has nothing to do to whoever waits."""
        if box.stage is Stage.STOPPING:
            return []
        if self.is_draining:
            return self.pool.stop(box, now)
        if box.is_for_one and not (made and self.book.waiting(box.key)):
            # Whoever waits has one of his own on its way.
            return self.pool.stop(box, now, ColdBecause.ONE_CALL)
        if box.is_spent:
            return self.pool.stop(box, now, ColdBecause.BROKEN_OFF)
        one = self.book.next(box.key)
        if one is None:
            return self.pool.rest(box, now)
        self.pool.occupy(box, now)
        return self._next(box, one, now, made=made) + self._fill(box, now, made=made)

    def _fill(self, box: Sandbox, now: float, *, made: bool = False) -> list[Action]:
        """Give a server as many more of those that wait as it may have at the same time."""
        orders: list[Action] = []
        while box.is_server and self._room(box, now) and (one := self.book.next(box.key)):
            orders += self._next(box, one, now, made=made)
        return orders

    def _next(self, box: Sandbox, one: Attempt, now: float, *, made: bool) -> list[Action]:
        """Give a sandbox to one that waited, which tells then what its making took."""
        one.made = box.made(one.came, one.arrived if one.start else now) if made else None
        return self._give(box, one, now)

    def _begin(self, now: float) -> list[Action]:
        """Have made what has its turn; what still waits and nobody needs any more leaves.

        An attempt takes whichever sandbox is free first, so that in a burst many are asked
        for which are never needed.
        """
        orders = self.pool.begin(now)
        for box in self.pool.queued():
            is_needed = self.pool.making(box.key) <= len(self.book.waiting(box.key))
            if not box.is_ahead and not is_needed:
                orders += self.pool.stop(box, now)
        return orders

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
            return self._call_up()
        if not box.queue:
            return self._free(box, now) + self._call_up()
        head = self.book.all[box.queue[0]]
        # What ran beside another has been running all the time.
        self.book.promote(head, head.head_at if box.is_server else now)
        return self._fill(box, now) + self._call_up()

    def _fallen(
        self, one: Attempt, box: Sandbox, why: str, handed: int | None, now: float
    ) -> Action:
        """Answer for an attempt of a dead miniworker: what it kept for later never began."""
        if handed is not None and one.serial > handed:
            return act.SayReturned(one.id, owed=True)
        return one.lost(box, why, now)

    def _handed_back(
        self, box: Sandbox, fault: Fault, reason: Reason, log: str, now: float
    ) -> list[Action]:
        """Return what a broken sandbox was sent and had not begun; why, if it is the node's."""
        orders: list[Action] = []
        for one in self.book.held(box):
            if one.sent:
                say = act.SayReturned(one.id, owed=True)
                if fault is Fault.NODE:
                    say = act.SayReturned(one.id, fault, reason, log, owed=True)
                orders += self._finish(one, say, now)
        return orders

    def _displaced(self, box: Sandbox, now: float) -> list[Action]:
        """Let attempts whose sandbox died before they were sent wait for another.

        Those that stood beside others have no slot to wait in.
        """
        orders: list[Action] = []
        held = self.book.held(box)
        for one in held:
            box.queue.remove(one.id)
            one.box = ""
        for one in held:
            say = act.SayReturned(one.id, owed=one.start is not None)
            orders += self._drop(one, now, say=say) if one.ahead else self._wait(one, now)
        return orders

    def _covered_again(self, key: str, now: float) -> list[Action]:
        """Have a new sandbox made for whoever waited for a generic one that died."""
        orders: list[Action] = []
        while len(self.book.waiting(key)) > self.pool.making(key):
            orders += self.pool.make(key, now, anew=True)
        return orders

    def _not_made(
        self, key: str, fault: Fault, reason: Reason, log: str, now: float
    ) -> list[Action]:
        """Answer for a sandbox that could not be made; what is amiss here stops others."""
        if fault is Fault.NODE and reason.code not in (NO_AGENT, NO_REACH):
            self.setbacks.failed(now)
        return self._uncovered(key, fault, reason, log, now)

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
        slack_s = OVERDUE_S + (START_CONTAINER_S if box.is_for_one else 0)
        if now - head.head_at > limit_s + slack_s:
            reason = Reason(code="timeout", message=f"it ran longer than {limit_s:g} s")
            box.verdict = (head.id, Status.TIMEOUT, reason)
            return self._kill(box, "it did not end an attempt in time", now)
        return []

    def _kill(self, box: Sandbox, why: str, now: float) -> list[Action]:
        # From here on it gets nothing more; what it holds is answered when it has ended.
        self.pool.doom(box, now)
        return [act.Kill(box.name, why, box.queue[0] if box.queue else None)]
