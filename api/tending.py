"""What operators say of nodes, and what nodes say of themselves: drain, resume, forget.

A node that is set aside gets nothing new from this moment on; that its worker has heard of it
and has nothing left shows in its heartbeat (``Session.is_drained``).
"""

from __future__ import annotations

from api.actions import Action, Emptied
from api.desk import Desk
from api.placing import Placing
from api.reunion import Reunion
from api.roster import Session
from wire.liveness import Pulse
from wire.messages import Drain, Resume, WorkerHeartbeat


class Tending:
    """The events of dispatch that are about a node and no call."""

    def __init__(self, desk: Desk, placing: Placing, reunion: Reunion) -> None:
        self._desk = desk
        self._placing = placing
        self._reunion = reunion

    def __repr__(self) -> str:
        return f"<Tending over {self._desk!r}>"

    def beat(self, session: Session, heartbeat: WorkerHeartbeat, now: float) -> list[Action]:
        """Note what a worker says once a second; one that takes work again gets some."""
        was_taking = session.takes_work
        session.heard(heartbeat)
        self._look_again(session, now, was_taking=was_taking)
        if session.is_drained:
            self._desk.add(Emptied(session))
        return self._desk.take()

    def pulse(self, session: Session, pulse: Pulse, now: float) -> list[Action]:
        """Note how alive a session is; one that speaks again gets work again."""
        was_taking = session.takes_work
        session.pulse = pulse
        self._look_again(session, now, was_taking=was_taking)
        return self._desk.take()

    def drain(self, session: Session) -> list[Action]:
        """Give a node nothing new, and have it hand back what has not begun."""
        self._desk.roster.set_aside(session)
        self._desk.fleet.refresh()
        self._desk.send(session, Drain(session=session.number))
        return self._desk.take()

    def resume(self, session: Session) -> list[Action]:
        """Give a node work again, as soon as it says that it is up."""
        self._desk.roster.take_back(session)
        self._desk.fleet.refresh()
        self._desk.send(session, Resume(session=session.number))
        return self._desk.take()

    def forget(self, name: str, now: float) -> list[Action]:
        """A node that is gone will not come back: nothing waits for its word any longer."""
        gone = self._desk.roster.forget(name)
        if gone is not None:
            self._reunion.forget(gone.hello.node_id, now)
            self._placing.pump(now)
        return self._desk.take()

    def _look_again(self, session: Session, now: float, *, was_taking: bool) -> None:
        if session.takes_work != was_taking:
            self._desk.fleet.refresh()
            self._placing.pump(now)
