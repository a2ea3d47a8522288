"""Sessions that begin and end, and the calls that are adrift between them.

A possibly started call of a lost session stays RUNNING until its node speaks again: a HELLO
that names the attempt takes it back, one of the same life that does not proves that it never
began, one of another life that it died. The same rules serve the records of an earlier life
of the api, which are judged once everybody concerned had the chance to come back.
"""

from __future__ import annotations

from typing import Final, Literal

from api import fates
from api.actions import Emptied
from api.desk import Desk
from api.live import Live
from api.phase import Phase
from api.roster import Session
from api.tries import Try
from wire.messages import Cancel, Drain, Hello, Resume, Welcome
from wire.models import Reason, Status

#: Beyond its timeout, how long a node's silence about a started call is borne.
SILENCE_S: Final = 5.0
Policy = Literal["requeue", "fail", "keep"]

_SUPERSEDED: Final = Reason(code="cancelled", message="the call went on without this attempt")


class Reunion:
    """Opens and closes sessions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __repr__(self) -> str:
        return f"<Reunion over {self._desk!r}>"

    def open(
        self, route: bytes, hello: Hello, catalogue: tuple[str, int], now: float
    ) -> Session:
        """Open a session (its node's earlier one is lost) and take back what runs there."""
        roster = self._desk.roster
        before = roster.same_node(hello.node_id)
        if before is not None and before.route == route and not before.credited:
            session = before  # HELLO, said again before WELCOME came.
            session.hello = hello
        else:
            if before is not None:
                self.lose(before, now, hello)
            session = roster.open(route, hello)
            self._desk.fleet.refresh()
        epoch, seq = catalogue
        welcome = Welcome(session=session.number, api=self._desk.api, epoch=epoch, seq=seq)
        self._desk.send(session, welcome)
        # The session in which it was told either may have been lost with the word.
        if session.is_set_aside:
            self._desk.send(session, Drain(session=session.number))
        elif roster.was_taken_back(hello):
            self._desk.send(session, Resume(session=session.number))
        self._reunite(session, now)
        return session

    def lose(self, session: Session, now: float, successor: Hello | None = None) -> None:
        """A session is over; ``successor`` is the HELLO that ended it, if one did."""
        desk = self._desk
        desk.roster.close(session.number)
        desk.fleet.refresh()
        desk.add(Emptied(session))
        # What is queued again goes to the front: the newest first, so that the oldest leads.
        for num in sorted(session.attempts, reverse=True):
            live = desk.calls[num]
            if live.phase is not Phase.STARTED:
                desk.end_try(live, None, fates.lost_before(session.hello.name), now)
                desk.requeue(live, now)
            elif successor is None and live.may_repeat and live.cancel is None:
                self.died(live, fates.node_lost(session.hello.name), now)
            else:
                self._set_adrift(live, now)

    def forget(self, node_id: str, now: float) -> None:
        """A node will not come back: what ran there when it was lost has died with it."""
        adrift = self._desk.adrift.values()
        for live in [one for one in adrift if one.node_id == node_id]:
            if live.phase is Phase.SILENT:
                self.died(live, fates.node_lost(_node(live)), now)

    def died(self, live: Live, reason: Reason, now: float) -> None:
        """A started attempt is known to have died: again, or the end."""
        live.deaths += 1
        self.meet(live, fates.of_death(live, reason), reason, now)

    def meet(self, live: Live, fate: fates.Fate, reason: Reason | None, now: float) -> None:
        """Do what a fate says."""
        if isinstance(fate, fates.End):
            self._desk.end(live, fate.status, fate.reason, now)
        else:
            self._desk.end_try(live, Status.LOST if reason else None, reason, now)
            self._desk.requeue(live, now, delay_s=fate.delay_s)

    def judge(self, policy: Policy, now: float) -> None:
        """Apply ``--unfinished`` to what an earlier life of the api left, once."""
        for _, live in sorted(self._desk.adrift.items(), reverse=True):
            if live.phase is Phase.UNDECIDED and policy != "keep":
                self._judge(live, policy, now)

    def _judge(self, live: Live, policy: Policy, now: float) -> None:
        desk, node_id = self._desk, live.node_id
        # Its node is back in another life: had it been the same, it had been decided already.
        back = node_id is not None and desk.roster.same_node(node_id) is not None
        if policy == "fail" or (live.sync and (node_id is None or back)):
            desk.end(live, Status.LOST, fates.INTERRUPTED, now)
        elif node_id is None:
            desk.requeue(live, now)
        elif back or (live.may_repeat and not live.sync):
            self.died(live, fates.node_lost(_node(live)), now)
        else:
            self._set_adrift(live, now)

    def _set_adrift(self, live: Live, now: float) -> None:
        """Wait for word of the node, which may still be running it."""
        desk = self._desk
        node_id, boot = live.node_id, live.boot
        desk.unassign(live)
        live.node_id, live.boot = node_id, boot
        live.phase = Phase.SILENT
        live.status = Status.RUNNING
        desk.adrift[live.num] = live
        if live.cancel is None:
            live.reason = fates.NODE_SILENT
            desk.agenda.set(live.num, now + live.timeout_ms / 1000 + SILENCE_S)
        desk.write(live, urgent=False)

    def _reunite(self, session: Session, now: float) -> None:
        desk, hello = self._desk, session.hello
        running = set(hello.running)
        self._hear_of(hello)
        mine = [live for live in desk.adrift.values() if live.node_id == hello.node_id]
        for live in sorted(mine, key=lambda one: one.num, reverse=True):
            if (live.num, live.attempt) in running:
                self._take_back(live, session)
            elif live.boot == hello.boot:
                self._never_began(live, now)
            elif live.phase is Phase.SILENT:
                self.died(live, fates.node_lost(_node(live)), now)
        for num, attempt in hello.running:
            known = desk.calls.get(num)
            if known is None or known.phase is Phase.UNDECIDED:
                continue
            if (known.session, known.attempt) != (session.number, attempt):
                self._cancel(session, num, attempt, _SUPERSEDED)

    def _hear_of(self, hello: Hello) -> None:
        """Take a node's word for attempts that were begun before the store knew of them."""
        for num, attempt in hello.running:
            live = self._desk.calls.get(num)
            if live is None or live.phase is not Phase.UNDECIDED or attempt <= live.attempt:
                continue
            live.tries += [Try(n, hello.name) for n in range(live.attempt + 1, attempt + 1)]
            live.node_id, live.boot = hello.node_id, hello.boot
            self._desk.count(live, runs=True)

    def _take_back(self, live: Live, session: Session) -> None:
        desk = self._desk
        desk.adrift.pop(live.num, None)
        live.phase, live.status = Phase.STARTED, Status.RUNNING
        live.session, live.boot = session.number, session.hello.boot
        session.attempts[live.num] = None
        if live.cancel is not None:
            # Its 5 s go on; this node has not been asked yet.
            self._cancel(session, live.num, live.attempt, live.cancel)
            return
        live.reason = None
        desk.agenda.clear(live.num)
        desk.write(live, urgent=False)

    def _cancel(self, session: Session, num: int, attempt: int, reason: Reason) -> None:
        cancel = Cancel(session=session.number, call=num, attempt=attempt, reason=reason)
        self._desk.send(session, cancel)

    def _never_began(self, live: Live, now: float) -> None:
        if live.phase is Phase.UNDECIDED:
            live.node_id = live.boot = None
            self._desk.count(live, runs=False)
        elif live.cancel is not None:
            self._desk.end(live, Status.CANCELLED, live.cancel, now)
        else:
            self._desk.end_try(live, None, fates.lost_before(_node(live)), now)
            self._desk.requeue(live, now)


def _node(live: Live) -> str:
    return live.tries[-1].node if live.tries else str(live.node_id)
