"""The heart of the api: what happens to calls, as events in and actions out.

Each public method is one event, from HTTP (accept, cancel, promise), from workers (hello,
credit, ready, returned, result, lost), from the store (durable) or from the clock (tick),
and returns what has to be done. The rules stand beside it: placing (how a call gets to a
sandbox), reunion (sessions and what is adrift), fates (what a bad end leads to).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from api import fates
from api.actions import Action, Hint
from api.backlog import Backlog
from api.chooser import Chooser
from api.desk import Desk
from api.ledger import Way
from api.live import Live
from api.phase import Phase
from api.placing import Placing
from api.reunion import Policy, Reunion
from api.roster import Roster, Session
from api.tally import Tally
from api.tending import Tending
from api.tries import Blocked
from wire.liveness import Pulse
from wire.messages import Cancel, Credit, Hello, Outcome, Progress, Ready, Result, Returned
from wire.models import Fault, Logs, Reason, Status

#: How long the store may take to make an acceptance durable.
ACCEPT_S: Final = 5.0
#: How long a worker may take to say how a cancelled attempt ended.
CONFIRM_S: Final = 5.0
CANCELLED: Final = Reason(code="cancelled", message="it was cancelled")
#: Where an attempt may run without the api being able to reach it.
_ADRIFT: Final = (Phase.SILENT, Phase.UNDECIDED)


@dataclass(frozen=True, slots=True)
class Output:
    """What an attempt produced."""

    result: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""


class Dispatch:
    """All calls of this api that have not both ended and been recorded."""

    def __init__(
        self,
        roster: Roster,
        backlog: Backlog,
        *,
        api: str,
        epoch: int,
        chooser: Chooser | None = None,
    ) -> None:
        self._desk = Desk(roster, backlog, api=api, epoch=epoch)
        self._placing = Placing(self._desk, chooser or Chooser())
        self._reunion = Reunion(self._desk)
        self.nodes = Tending(self._desk, self._placing, self._reunion)

    def __repr__(self) -> str:
        return f"<Dispatch over {self._desk!r}>"

    @property
    def calls(self) -> dict[int, Live]:
        """Return every call that lives, by callNum."""
        return self._desk.calls

    @property
    def adrift(self) -> dict[int, Live]:
        """Return the calls that wait for word of their node."""
        return self._desk.adrift

    @property
    def tally(self) -> Tally:
        """Return what was counted."""
        return self._desk.tally

    # --- from HTTP ---------------------------------------------------------------------

    def accept(self, live: Live, now: float) -> list[Action]:
        """Take a new call: a synchronous one goes at once, another when it is durable."""
        self._desk.calls[live.num] = live
        if live.sync:
            self._admit(live, now)
        else:
            live.is_offered = True
            # Where it can begin as soon as it is durable, one record says both.
            if not self._placing.permit_offered(live, now):
                self._desk.write(live, urgent=True)
            self._desk.agenda.set(live.num, now + ACCEPT_S)
        return self._desk.take()

    def promise(self, live: Live) -> list[Action]:
        """A synchronous call's client goes with a 202: from now on it is durable."""
        live.sync = False
        if live.phase is not Phase.ENDED:
            self._desk.write(live, urgent=True)
        return self._desk.take()

    def cancel(self, num: int, now: float, reason: Reason = CANCELLED) -> list[Action]:
        """End a call, at once if it has not begun; unknown and ended ones are fine."""
        live = self.calls.get(num)
        if live is None or live.phase is Phase.ENDED or live.cancel is not None:
            return []
        live.cancel = reason
        if live.phase is Phase.STARTED or (live.phase in _ADRIFT and live.node_id):
            self._ask_cancel(live, reason)
            self._desk.agenda.set(num, now + CONFIRM_S)
        else:
            self._withdraw(live, reason)
            self._desk.end(live, Status.CANCELLED, reason, now)
            self._placing.pump(now)
        return self._desk.take()

    # --- from the store ----------------------------------------------------------------

    def durable(self, num: int, rev: int, now: float) -> list[Action]:
        """A revision is stored: what waited for it goes on."""
        live = self.calls.get(num)
        if live is None:
            return []
        live.durable_rev = max(live.durable_rev, rev)
        live.is_offered = False
        if live.phase is Phase.ACCEPTING:
            self._desk.agenda.clear(num)
            self._admit(live, now)
        elif live.phase is Phase.PERMITTED and live.durable_rev >= live.gate:
            session = self._desk.roster.sessions[live.session or 0]
            self._placing.start(live, session, now)
        elif live.phase is Phase.QUEUED:
            self._desk.backlog.loosen(live.key, num)
        elif live.phase is Phase.ENDED and live.durable_rev >= live.rev:
            self._desk.settle(live)
        return self._desk.take()

    def came(self, num: int, params: bytes | None, now: float) -> list[Action]:
        """The params of a call that waits were read; None: the store has them no more."""
        live, desk = self.calls.get(num), self._desk
        if live is None or not desk.backlog.is_away(live.key, num):
            return []
        if params is None:
            desk.end(live, Status.FAILED, fates.NO_PARAMS, now)
        else:
            live.take_params(params)
            desk.backlog.came(live.key, num)
            desk.relieve()
        self._placing.pump(now)
        return desk.take()

    def recover(self, live: Live) -> None:
        """Take an unfinished call of an earlier life; it is judged later."""
        self.calls[live.num] = self.adrift[live.num] = live
        self._desk.count(live, runs=live.node_id is not None)

    def judge(self, policy: Policy, now: float) -> list[Action]:
        """Decide about the calls of an earlier life: their nodes had their time."""
        self._reunion.judge(policy, now)
        self._placing.pump(now)
        return self._desk.take()

    # --- from workers ------------------------------------------------------------------

    def hello(
        self, route: bytes, hello: Hello, catalogue: tuple[str, int], now: float
    ) -> tuple[Session, list[Action]]:
        """Open a session for a worker that the roster found no fault with."""
        session = self._reunion.open(route, hello, catalogue, now)
        self._placing.pump(now)
        return session, self._desk.take()

    def lost(self, session: Session, now: float) -> list[Action]:
        """A session is over: silent too long, or left."""
        self._reunion.lose(session, now)
        self._placing.pump(now)
        return self._desk.take()

    def pulse(self, session: Session, pulse: Pulse, now: float) -> list[Action]:
        """Note how alive a session is; one that speaks again gets work again."""
        return self.nodes.pulse(session, pulse, now)

    def credit(self, session: Session, credit: Credit, now: float) -> list[Action]:
        """Spend what a worker grants: first on what it prepares, then on the queue."""
        self._grant(session, credit, now)
        self._placing.pump(now)
        return self._desk.take()

    def ready(self, session: Session, ready: Ready, now: float) -> list[Action]:
        """A PREPAREd attempt has its sandbox: START it."""
        live = self._there(session, ready.call, ready.attempt, Phase.PREPARED)
        if live is not None:
            self._placing.permit(live, session, Way.READY, now)
        return self._desk.take()

    def progress(self, session: Session, progress: Progress) -> None:
        """A PREPAREd attempt waits for something that takes long."""
        live = self._there(session, progress.call, progress.attempt, Phase.PREPARED)
        if live is not None:
            live.tries[-1].waits_for = progress.text

    def returned(self, session: Session, returned: Returned, now: float) -> list[Action]:
        """An attempt will never begin there."""
        sent = (Phase.PREPARED, Phase.PERMITTED, Phase.STARTED)
        live = self._there(session, returned.call, returned.attempt, *sent)
        if live is None:
            return []
        live.returns += 1
        if returned.fault is Fault.NODE:
            live.faults += 1
            live.avoid |= {session.hello.node_id}
            live.tries[-1].failed = True
        if returned.log:
            live.logs = Logs(stderr=returned.log)
        fate = fates.of_return(live, returned.fault, returned.reason)
        self._desk.end_try(live, None, returned.reason, now)
        self._reunion.meet(live, fate, None, now)
        self._placing.pump(now)
        return self._desk.take()

    def result(
        self, session: Session, result: Result, output: Output, now: float
    ) -> list[Action]:
        """An attempt ended: the first end of the current one is the call's."""
        live, outcome = self.calls.get(result.call), result.outcome
        if live is None or outcome is None:
            self._desk.acknowledge(session, result.number)
        else:
            self._take_end(live, session, result, outcome, output, now)
        if result.credit is not None:
            self._grant(session, result.credit, now)
        self._placing.pump(now)
        return self._desk.take()

    # --- from the clock ----------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Look at every call that is due."""
        for num in self._desk.agenda.take(now):
            live = self.calls.get(num)
            if live is not None and live.phase is not Phase.ENDED:
                self._due(live, now)
        self._placing.pump(now)
        return self._desk.take()

    def _due(self, live: Live, now: float) -> None:
        desk = self._desk
        if live.cancel is not None:
            desk.end(live, Status.CANCELLED, fates.UNCONFIRMED, now)
        elif live.is_offered:
            # Its client is told that it was not accepted: its key may be used again.
            live.idempotency_key = live.idempotency_digest = None
            desk.end(live, Status.CANCELLED, fates.NOT_STORED, now)
        elif live.phase is Phase.SILENT:
            desk.end(live, Status.LOST, fates.NODE_SILENT, now)
        elif live.phase is Phase.QUEUED and now < live.deadline:
            desk.queue(live, front=True)
        elif live.phase is not Phase.STARTED:
            self._withdraw(live, fates.never_started(live))
            end = fates.of_deadline(live)
            desk.end(live, end.status, end.reason, now)

    def _admit(self, live: Live, now: float) -> None:
        live.phase = Phase.QUEUED
        live.admitted = live.queued = now
        if self._desk.backlog.has(live.key):
            live.blocked = Blocked.TURN
            self._desk.queue(live)
        elif not self._placing.place(live, now):
            self._desk.queue(live)

    def _ask_cancel(self, live: Live, reason: Reason) -> None:
        cancel = Cancel(session=0, call=live.num, attempt=live.attempt, reason=reason)
        self._desk.add(Hint(cancel))
        self._withdraw(live, reason)

    def _withdraw(self, live: Live, reason: Reason) -> None:
        """Tell the session that has the attempt, if one has, to end it."""
        session = self._desk.roster.sessions.get(live.session or 0)
        if session is not None:
            cancel = Cancel(
                session=session.number, call=live.num, attempt=live.attempt, reason=reason
            )
            self._desk.send(session, cancel)

    def _grant(self, session: Session, credit: Credit, now: float) -> None:
        session.credited = True
        session.saw(credit.received)
        session.ledger.grant(credit.seen, credit.free, credit.warm, credit.lent)
        self._desk.fleet.granted(session, (warm.key for warm in credit.warm))
        if session.takes_work:
            self._placing.bind_late(session, now)

    def _take_end(
        self,
        live: Live,
        session: Session,
        result: Result,
        outcome: Outcome,
        output: Output,
        now: float,
    ) -> None:
        if self._is_its_end(live, session, result.attempt):
            self._finish(live, outcome, output, now)
        else:
            self._note_late(live, result.attempt, outcome, now)
        if live.phase is Phase.ENDED:
            self._desk.owe(live, session, result.number)
        else:
            self._desk.acknowledge(session, result.number)

    def _finish(self, live: Live, outcome: Outcome, output: Output, now: float) -> None:
        reason = outcome.reason
        if outcome.status is Status.LOST and reason is not None and live.may_repeat:
            live.tries[-1].take(outcome)
            self._reunion.died(live, reason, now)
            return
        if outcome.status is not Status.DONE:
            fate = fates.of_failure(live, outcome, now)
            if isinstance(fate, fates.Again):
                live.tries[-1].take(outcome)
                self._desk.end_try(live, outcome.status, reason, now)
                self._desk.requeue(live, now, delay_s=fate.delay_s)
                return
            reason = fate.reason
        live.take_outcome(outcome, now)
        live.take_output(output.result, output.stdout, output.stderr)
        self._desk.end(live, outcome.status, reason, now)

    def _note_late(self, live: Live, attempt: int, outcome: Outcome, now: float) -> None:
        """An attempt that decides nothing any more is still told of in the record."""
        if 0 < attempt <= len(live.tries):
            late = live.tries[attempt - 1]
            late.take(outcome)
            late.status, late.reason = outcome.status, outcome.reason
            late.finished = now
            self._desk.write(live, urgent=live.phase is Phase.ENDED)

    def _there(self, session: Session, num: int, attempt: int, *phases: Phase) -> Live | None:
        """Return the call whose current attempt is this one, on this session, in a phase."""
        live = self.calls.get(num)
        if live is None or (live.session, live.attempt) != (session.number, attempt):
            return None
        return live if live.phase in phases else None

    def _is_its_end(self, live: Live, session: Session, attempt: int) -> bool:
        if live.attempt != attempt:
            return False
        if live.phase in _ADRIFT:
            return live.node_id in (None, session.hello.node_id)
        return live.phase is Phase.STARTED and live.session == session.number
