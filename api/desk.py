"""The calls that live, and the few moves that everything else about them is made of.

A desk decides nothing: it queues, sends, writes and ends, keeps each count in step with each
move, and collects the actions for the shell.
"""

from __future__ import annotations

from collections import Counter

from api.actions import Action, Ended, Read, Send, Settled, Write
from api.agenda import Agenda
from api.backlog import SMALL_BYTES, Backlog
from api.fleet import Fleet
from api.live import Live
from api.phase import Phase
from api.policy import Choice
from api.roster import Roster, Session
from api.tally import Tally
from api.tries import Blocked
from wire.codec import Message
from wire.messages import Recorded
from wire.models import Reason, Status


class Desk:
    """What the parts of dispatch share."""

    def __init__(self, roster: Roster, backlog: Backlog, *, api: str, epoch: int) -> None:
        self.api = api
        self.epoch = epoch
        self.roster = roster
        self.fleet = Fleet(roster)
        self.backlog = backlog
        self.agenda = Agenda()
        self.tally = Tally()
        #: Every call that is not both terminal and durable.
        self.calls: dict[int, Live] = {}
        #: Those that may run on a node whose session is lost, or are not judged yet.
        self.adrift: dict[int, Live] = {}
        #: Of functions with a ``maxConcurrency``: the calls that run, or may.
        self._running: Counter[tuple[str, str]] = Counter()
        #: Results that are acknowledged when the call's newest record is durable.
        self._receipts: dict[int, list[tuple[Session, int]]] = {}
        self._out: list[Action] = []

    def __repr__(self) -> str:
        return f"<Desk {len(self.calls)} calls, {len(self.adrift)} adrift, {self.backlog!r}>"

    def take(self) -> list[Action]:
        """Return what was decided since the last time."""
        out, self._out = self._out, []
        return out

    def add(self, action: Action) -> None:
        """Decide something."""
        self._out.append(action)

    def send(self, session: Session, message: Message, payload: bytes = b"") -> None:
        """Hand a message to a session; its bytes are under way from now on."""
        session.sent_bytes += len(payload)
        self._out.append(Send(session, message, payload))

    def write(self, live: Live, *, urgent: bool) -> int:
        """Give the record its next revision and return it."""
        live.rev += 1
        self._out.append(Write(live, urgent))
        return live.rev

    def queue(self, live: Live, *, front: bool = False) -> None:
        """Let a call wait for a credit, at most until its deadline."""
        live.phase = Phase.QUEUED
        key, num, size = live.key, live.num, live.params_size
        if not front and self.backlog.has_away(key):
            # Behind calls that are to be read first, it would only take their place.
            self.put_away(live)
        if live.away is None:
            self.backlog.push(key, num, size, front=front, stored=live.is_stored)
            self.relieve()
        else:
            self.backlog.push_away(key, num, size, front=front)
        self.agenda.set(num, live.deadline)

    def put_away(self, live: Live) -> None:
        """Leave the params of a call that will not run at once to the store, if it has them."""
        if live.is_stored and live.params_size > SMALL_BYTES:
            live.leave_params()

    def relieve(self) -> None:
        """Leave to the store what waits beyond the memory for it."""
        for num in self.backlog.overflow():
            self.calls[num].leave_params()

    def read(self, key: str) -> None:
        """Have the params of a key's first call read, for its turn has come."""
        num = self.backlog.read_head(key)
        if num is not None:
            live = self.calls[num]
            if live.blocked in (None, Blocked.TURN):
                live.blocked = Blocked.STORE
            self.add(Read(num))

    def read_ahead(self) -> None:
        """Have params read that will be wanted soon, as there is room."""
        for num in self.backlog.read_ahead():
            self.add(Read(num))

    def is_full(self, live: Live) -> bool:
        """Return whether as many calls of its function run as may."""
        function = live.spec.function
        limit = function.max_concurrency
        name = function.project, function.function_name
        return limit is not None and self._running[name] >= limit

    def count(self, live: Live, *, runs: bool) -> None:
        """A call runs from now on, or may, or surely does not any more."""
        function = live.spec.function
        if function.max_concurrency is None or live.is_counted is runs:
            return
        live.is_counted = runs
        name = function.project, function.function_name
        self._running[name] += 1 if runs else -1
        if not self._running[name]:
            del self._running[name]

    def assign(self, live: Live, session: Session, choice: Choice, now: float) -> None:
        """The next attempt of a call goes to this session."""
        self.backlog.remove(live.key, live.num)
        self.count(live, runs=True)
        live.begin_try(session.hello.name, choice, now)
        live.session = session.number
        session.attempts[live.num] = None
        if live.dispatched is None:
            live.dispatched = now

    def unassign(self, live: Live) -> Session | None:
        """The current attempt is there no more: give back all that it held."""
        number, live.session = live.session, None
        session = self.roster.sessions.get(number) if number is not None else None
        spend, live.spend = live.spend, None
        if session is not None:
            session.attempts.pop(live.num, None)
            session.unprepare(live.key, live.num)
            if spend is not None:
                session.ledger.release(spend)
                self.fleet.granted(session, (live.key,))
        return session

    def requeue(self, live: Live, now: float, *, delay_s: float = 0.0) -> None:
        """Let a call wait again; the record forgets the node it may not be on any more."""
        self.unassign(live)
        self.count(live, runs=False)
        self.adrift.pop(live.num, None)
        live.status, live.reason, live.started = Status.PENDING, None, None
        live.node_id = live.boot = None
        live.queued, live.blocked = now, Blocked.PAUSE if delay_s else Blocked.SLOT
        self.write(live, urgent=False)
        if live.is_offered:
            # It goes on when it is durable, and is given up if that takes too long.
            live.phase = Phase.ACCEPTING
        elif delay_s:
            live.phase = Phase.QUEUED
            self.put_away(live)
            live.retry_at = now + delay_s
            self.agenda.set(live.num, min(live.retry_at, live.deadline))
        else:
            self.queue(live, front=True)

    def end_try(
        self, live: Live, status: Status | None, reason: Reason | None, now: float
    ) -> None:
        """Note how the current attempt ended."""
        if live.tries and live.tries[-1].finished is None:
            one = live.tries[-1]
            one.status, one.reason, one.finished = status, reason, now
            self.tally.attempt_ended(status)

    def end(self, live: Live, status: Status, reason: Reason | None, now: float) -> None:
        """Give a call its one terminal state."""
        self.unassign(live)
        self.count(live, runs=False)
        self.backlog.remove(live.key, live.num)
        self.agenda.clear(live.num)
        self.adrift.pop(live.num, None)
        self.end_try(live, status, reason, now)
        live.phase, live.status, live.reason = Phase.ENDED, status, reason
        live.node_id = live.boot = None
        if live.finished is None:
            live.finished = now
        self.tally.ended(live)
        # Whoever waits is answered first; what he is told has the revision that is written.
        at = len(self._out)
        # Its worker keeps the result meanwhile; only who cancels waits for the record.
        self.write(live, urgent=live.cancel is not None)
        self._out.insert(at, Ended(live))

    def owe(self, live: Live, session: Session, number: int) -> None:
        """Acknowledge a result once the call's newest record is durable."""
        self._receipts.setdefault(live.num, []).append((session, number))

    def acknowledge(self, session: Session, number: int) -> None:
        """A result may be forgotten by its worker, as soon as those before it may."""
        upto = session.receipts.done(number)
        if upto is not None and session.number in self.roster.sessions:
            self.send(session, Recorded(session=session.number, upto=upto))

    def settle(self, live: Live) -> None:
        """The newest record of an ended call is durable: nothing more is to be done."""
        for session, number in self._receipts.pop(live.num, ()):
            self.acknowledge(session, number)
        del self.calls[live.num]
        self.add(Settled(live))
