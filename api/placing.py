"""How a call gets to a sandbox: choose a session, PREPARE or START, spend its credit.

A START goes out at once unless it must be durable first; then it waits for its record,
holding its credit, and nothing has begun if the session is lost meanwhile.
"""

from __future__ import annotations

from api.desk import Desk
from api.ledger import Way
from api.live import Live
from api.phase import Phase
from api.policy import Offer, warm_first
from api.roster import Session
from api.tries import Blocked
from wire.messages import INLINE_BYTES, Prepare, Start
from wire.models import Status


class Placing:
    """Spends credits on calls."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __repr__(self) -> str:
        return f"<Placing over {self._desk!r}>"

    def place(self, live: Live, now: float) -> bool:
        """Send a call somewhere; return whether there was a credit for it."""
        offers = [o for s in self._desk.roster.sessions.values() if (o := self._offer(s, live))]
        chosen = warm_first(offers)
        if chosen is None:
            live.blocked = Blocked.SLOT if offers else Blocked.NODE
            return False
        session = self._desk.roster.sessions[chosen.offer.session]
        self._desk.assign(live, session, chosen, now)
        if chosen.way is Way.COLD:
            self._prepare(live, session, now)
        else:
            self.permit(live, session, chosen.way, now)
        return True

    def pump(self, now: float) -> None:
        """Give queued calls what credit there is, one of each function in turn."""
        desk = self._desk
        sessions = desk.roster.sessions.values()
        if not desk.backlog or all(s.ledger.is_spent or not s.takes_work for s in sessions):
            return
        turns = desk.backlog.turns()
        while turns:
            key = turns.popleft()
            num = desk.backlog.head(key)
            if num is not None and self.place(desk.calls[num], now):
                desk.backlog.served(key)
                turns.append(key)

    def bind_late(self, session: Session, now: float) -> None:
        """START what was PREPAREd there on sandboxes that became idle sooner."""
        ledger = session.ledger
        for key in [k for k in session.prepared if ledger.idle(k)]:
            while ledger.free and ledger.idle(key) and key in session.prepared:
                live = self._desk.calls[next(iter(session.prepared[key]))]
                live.tries[-1].early = True
                self.permit(live, session, Way.IDLE, now)

    def permit(self, live: Live, session: Session, way: Way, now: float) -> None:
        """Decide START: at once, or when the record that says so is durable."""
        session.unprepare(live.key, live.num)
        live.spend = session.ledger.reserve(way, live.key)
        live.tries[-1].permitted = now
        live.node_id, live.boot = session.hello.node_id, session.hello.boot
        if live.needs_gate:
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

    def _offer(self, session: Session, live: Live) -> Offer | None:
        inline = len(live.params) if len(live.params) <= INLINE_BYTES else 0
        if not session.takes_work or session.window < inline:
            return None
        ledger, key = session.ledger, live.key
        return Offer(
            session=session.number,
            free=ledger.free,
            idle=ledger.idle(key),
            ahead=ledger.ahead(key),
            slots=session.hello.slots,
            attempts=len(session.attempts),
            avoided=session.hello.node_id in live.avoid,
        )
