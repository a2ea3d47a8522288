"""What a node tells its api by itself: each a message of the open session, if there is one."""

from __future__ import annotations

import os
from typing import Final

from wire import messages as m
from wire.codec import Message
from worker.actions import SayProgress, SayReady, SayReturned
from worker.broker import Broker
from worker.credits import Credits
from worker.diary import Diary
from worker.fetcher import What
from worker.results import Results
from worker.uplink import Uplink

#: Why a node whose results are not stored grants nothing.
_BEHIND: Final = "too many of its results are not stored yet"
#: A PROGRESS says no more.
TEXT_CHARS: Final = 512


class Voice:
    """Puts the number of the session on what is said; without one most of it is dropped."""

    def __init__(self, uplink: Uplink, results: Results) -> None:
        self._uplink = uplink
        self._results = results

    def __repr__(self) -> str:
        return f"<Voice on {self._uplink}>"

    def ready(self, order: SayReady) -> None:
        """Say that a PREPAREd attempt has its sandbox."""
        if number := self._uplink.session.number:
            call, attempt = order.id
            self._uplink.say(m.Ready(session=number, call=call, attempt=attempt))

    def progress(self, order: SayProgress) -> None:
        """Say what a PREPAREd attempt waits for."""
        if number := self._uplink.session.number:
            call, attempt = order.id
            text = order.text[:TEXT_CHARS]
            self._uplink.say(m.Progress(session=number, call=call, attempt=attempt, text=text))

    def returned(self, order: SayReturned) -> None:
        """Say that an attempt will never begin here, now or in the next session."""
        number = self._uplink.session.number
        if not number:
            if order.owed:
                self._results.owe(order)
            return
        call, attempt = order.id
        message = m.Returned(
            session=number,
            call=call,
            attempt=attempt,
            fault=order.fault,
            reason=order.reason,
            log=order.log,
        )
        self._uplink.say(message)

    def of_session(self, message: Message) -> None:
        """Say what concerns one session alone, unless that is over."""
        number = self._uplink.session.number
        if number and getattr(message, "session", 0) == number:
            self._uplink.say(message)

    def fetch(self, what: What, key: str, offset: int, credit: int) -> None:
        """Ask for bytes; what is not asked now is asked when a session opens."""
        if number := self._uplink.session.number:
            message = m.Fetch(session=number, what=what, key=key, offset=offset, credit=credit)
            self._uplink.say(message)

    def sync(self, epoch: str, seq: int, keys: tuple[str, ...]) -> None:
        """Ask for the catalogue from here on, and for single revisions."""
        if number := self._uplink.session.number:
            self._uplink.say(m.Sync(session=number, epoch=epoch, seq=seq, keys=keys))

    def beat(self, broker: Broker, credits_: Credits, diary: Diary, now: float) -> None:
        """Say that this node lives, and what people want to know of it."""
        number = self._uplink.session.number
        if not number:
            return
        beat = m.WorkerHeartbeat(
            session=number,
            seen=credits_.seen,
            received=credits_.received,
            running=len(broker.running()),
            sandboxes=broker.pool.alive(),
            load=os.getloadavg()[0],
            state="draining" if broker.is_draining else "up",
            warm=tuple(sorted(broker.pool.counts().items())),
            generic=tuple(sorted(broker.pool.resting.generics().items())),
            starts=diary.found(),
            preload=broker.pool.preload.policy,
            withheld=_BEHIND if self._results.is_full else broker.withheld(now),
        )
        self._uplink.say(beat)
