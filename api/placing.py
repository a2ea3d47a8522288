"""How a call gets to a sandbox: choose a session, PREPARE or START, spend its credit.

A START goes out at once unless it must be durable first; then it waits for its record,
holding its credit, and nothing has begun if the session is lost meanwhile.
"""

from __future__ import annotations

from api import fates
from api.chooser import Chooser, Nowhere
from api.desk import Desk
from api.fleet import Wanted
from api.ledger import Way
from api.live import Live
from api.phase import Phase
from api.policy import needs_of
from api.roster import Session
from api.tries import Blocked
from wire.messages import INLINE_BYTES, Prepare, Start
from wire.models import Status


class Placing:
    """Spends credits on calls."""

    def __init__(self, desk: Desk, chooser: Chooser) -> None:
        self._desk = desk
        self._chooser = chooser

    def __repr__(self) -> str:
        return f"<Placing over {self._desk!r}>"

    def place(self, live: Live, now: float) -> bool:
        """Send a call somewhere; return whether there was a credit for it."""
        if self._desk.is_full(live):
            live.blocked = Blocked.LIMIT
            return False
        chosen = self._chooser.choose(_wanted(live), self._desk.fleet)
        if isinstance(chosen, Nowhere):
            live.blocked = _blocked(chosen)
            return False
        session = self._desk.roster.sessions[chosen.offer.session]
        self._desk.assign(live, session, chosen, now)
        if chosen.way is Way.COLD:
            self._prepare(live, session, now)
        else:
            self.permit(live, session, chosen.way, now)
        return True

    def permit_offered(self, live: Live, now: float) -> bool:
        """Decide START for a call whose first record is to be written; return whether it was.

        Only where something warm waits: nothing is made for a call that is not accepted yet.
        """
        if self._desk.backlog.has(live.key) or self._desk.is_full(live):
            return False
        chosen = self._chooser.choose_warm(_wanted(live), self._desk.fleet)
        if chosen is None:
            return False
        live.admitted = live.queued = now
        session = self._desk.roster.sessions[chosen.offer.session]
        self._desk.assign(live, session, chosen, now)
        self.permit(live, session, chosen.way, now)
        return True

    def pump(self, now: float) -> None:
        """Give queued calls what credit there is, one of each function in turn."""
        desk = self._desk
        if not desk.backlog:
            return
        turns = desk.backlog.turns()
        while turns:
            key = turns.popleft()
            if not desk.fleet.may_take(key):
                continue
            num = desk.backlog.head(key)
            if num is None:
                continue
            if desk.backlog.is_away(key, num):
                # It keeps its turn, and is placed when its params are there.
                desk.read(key)
            elif self.place(desk.calls[num], now):
                desk.backlog.served(key)
                turns.append(key)
        desk.read_ahead()

    def bind_late(self, session: Session, now: float) -> None:
        """START what was PREPAREd there on sandboxes that became idle sooner."""
        ledger = session.ledger
        for key in [k for k in session.prepared if ledger.idle(k)]:
            while ledger.spare and ledger.idle(key) and key in session.prepared:
                live = self._desk.calls[next(iter(session.prepared[key]))]
                live.tries[-1].early = True
                self.permit(live, session, Way.IDLE, now)

    def permit(self, live: Live, session: Session, way: Way, now: float) -> None:
        """Decide START: at once, or when the record that says so is durable."""
        session.unprepare(live.key, live.num)
        live.spend = session.ledger.reserve(way, live.key)
        live.tries[-1].permitted = now
        live.node_id, live.boot = session.hello.node_id, session.hello.boot
        if live.needs_gate or live.is_offered:
            live.phase = Phase.PERMITTED
            live.gate = self._desk.write(live, urgent=True)
            self._desk.agenda.set(live.num, live.deadline)
        else:
            self.start(live, session, now)
            self._desk.write(live, urgent=False)

    def start(self, live: Live, session: Session, now: float) -> None:
        """Hand START to the socket: from here on the attempt is possibly started."""
        ahead = False
        if live.spend is not None:
            session.ledger.send(live.spend)
            ahead = live.spend.way is Way.AHEAD
            self._desk.tally.started(live.spend.way)
            live.spend = None
        live.phase, live.status = Phase.STARTED, Status.RUNNING
        live.started = live.tries[-1].started = live.tries[-1].sent = now
        self._desk.agenda.clear(live.num)
        size = len(live.params)
        start = Start(
            session=session.number,
            call=live.num,
            attempt=live.attempt,
            key=live.key,
            timeout_ms=live.timeout_ms,
            size=size,
            record=live.portable(self._desk.api, self._desk.epoch),
            ahead=ahead,
            traceparent=live.trace.parent,
            tracestate=live.trace.state,
        )
        self._desk.send(session, start, live.params if size <= INLINE_BYTES else b"")

    def _prepare(self, live: Live, session: Session, now: float) -> None:
        session.ledger.send(session.ledger.reserve(Way.COLD, live.key))
        session.prepare(live.key, live.num)
        session.claims.append((session.ledger.sent, live.spec.runtime.name))
        live.phase = Phase.PREPARED
        self._desk.agenda.set(live.num, live.deadline)
        prepare = Prepare(
            session=session.number,
            call=live.num,
            attempt=live.attempt,
            key=live.key,
            budget_ms=max(1, round((live.deadline - now) * 1000)),
        )
        self._desk.send(session, prepare)


def _wanted(live: Live) -> Wanted:
    function, size = live.spec.function, len(live.params)
    contract = live.spec.runtime.contract
    return Wanted(
        key=live.key,
        function=f"{function.project}/{function.function_name}",
        runtime=function.runtime_name,
        needs=needs_of(function, contract),
        policy=function.policy,
        beside=contract == "http",
        behind=contract == "http" or live.returns < fates.PATIENT_RETURNS,
        inline=size if size <= INLINE_BYTES else 0,
        avoid=live.avoid,
    )


def _blocked(nowhere: Nowhere) -> Blocked:
    if nowhere.fits:
        return Blocked.SLOT
    return Blocked.LABELS if nowhere.takes_work else Blocked.NODE
