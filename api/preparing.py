"""Bundles made ahead of the first call: which worker is asked, and what comes of it.

A bundle does not depend on revision numbers, so the one that is made for a function before the
catalogue changes is the one that its calls will use. A worker that is lost, or cannot, costs
another try elsewhere; what a function's own installer does wrong ends it at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from api.roster import Roster, Session
from wire.codec import Message
from wire.errors import InstallFailed, NoSandbox, NoSpace, NoWorker, SkepError
from wire.messages import Bundle, Bundled, BundleLog
from wire.models import Fault, Reason, Spec

log = logging.getLogger(__name__)

OnText = Callable[[str], None]
#: Workers asked for one bundle before it is given up.
MAX_TRIES: Final = 3
_LATER: Final = "or register with ?prepare=false: its first call installs then"
#: Codes of reasons for which no installer was begun.
_OF_IMAGE: Final = ("image_unavailable", "command_not_found")
_MEND_IMAGE: Final = "mend the runtime's image, or register the runtime with another one"
_MEND: Final = (
    "mend the requirements (a file that is missing may be an empty one), or the runtime's "
    "`dependencies`. If an index cannot be reached: --index-url, --proxy, --ca-bundle of skep "
    "up and skep-worker"
)


@dataclass(slots=True, eq=False)
class Ticket:
    """One bundle that a session was asked for; None ends it if the session is lost."""

    session: Session
    on_text: OnText
    answer: asyncio.Future[Bundled | None]


class Preparing:
    """All tickets that are open."""

    def __init__(self, roster: Roster, send: Callable[[Session, Message], None]) -> None:
        self._roster = roster
        self._send = send
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count(1)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Preparing: {len(self._tickets)} tickets>"

    async def prepare(self, spec: Spec, on_text: OnText) -> None:
        """Have the bundle made on a worker; ``on_text`` hears what its installer prints.

        Raises:
            InstallFailed: it would be made nowhere, and why.
            NoSpace, NoSandbox: no worker that was asked could make it.
            NoWorker: there is none to ask.
        """
        tried: set[Session] = set()
        failed: SkepError = NoWorker(
            "no worker is connected that could install the dependencies",
            hint=f"start one: skep-worker --name node1 --api tcp://HOST:3001, {_LATER}",
        )
        while len(tried) < MAX_TRIES and not self._is_closed:
            session = least_loaded(self._roster.sessions.values(), tried, self._load)
            if session is None:
                break
            if tried:
                on_text(f"\n[{failed.message}; once more on {session.hello.name}]\n")
            tried.add(session)
            answer = await self._ask(session, spec, on_text)
            if answer is not None and answer.reason is None:
                return
            failed = _failure(session, answer)
            if isinstance(failed, InstallFailed):
                break
        raise failed

    def heard(self, session: Session, message: BundleLog | Bundled) -> None:
        """Take what a worker says of a ticket; of one that nobody waits for, nothing."""
        ticket = self._tickets.get(message.ticket)
        if ticket is None or ticket.session is not session:
            return
        if isinstance(message, BundleLog):
            ticket.on_text(message.text)
        elif not ticket.answer.done():
            ticket.answer.set_result(message)

    def lost(self, session: Session) -> None:
        """The session is over; its tickets are asked for elsewhere."""
        for ticket in self._tickets.values():
            if ticket.session is session and not ticket.answer.done():
                ticket.answer.set_result(None)

    def close(self) -> None:
        """Let nobody wait any longer: the api stops."""
        self._is_closed = True
        for ticket in self._tickets.values():
            if not ticket.answer.done():
                ticket.answer.set_result(None)

    async def _ask(self, session: Session, spec: Spec, on_text: OnText) -> Bundled | None:
        number = next(self._numbers)
        answer: asyncio.Future[Bundled | None] = asyncio.get_running_loop().create_future()
        self._tickets[number] = Ticket(session, on_text, answer)
        try:
            self._send(session, Bundle(session=session.number, ticket=number, spec=spec))
            return await answer
        finally:
            # Who asked may be gone; what the worker makes is of use to the next one.
            del self._tickets[number]

    def _load(self, session: Session) -> int:
        return sum(ticket.session is session for ticket in self._tickets.values())


def least_loaded(
    sessions: Iterable[Session], tried: set[Session], load: Callable[[Session], int]
) -> Session | None:
    """Return the worker with the fewest bundles, then attempts for its slots; or None."""
    free = [session for session in sessions if session.takes_work and session not in tried]
    return min(
        free,
        key=lambda session: (load(session), len(session.attempts) / session.hello.slots),
        default=None,
    )


def _failure(session: Session, answer: Bundled | None) -> SkepError:
    if answer is None or answer.reason is None:
        return NoWorker(
            f"worker {session.hello.name} was lost while it installed the dependencies",
            hint=f"try again in a moment, {_LATER}",
        )
    reason = answer.reason
    log.info("worker %s made no bundle: %s", session.hello.name, reason.code)
    if answer.fault is Fault.FUNCTION:
        is_image = reason.code in _OF_IMAGE
        return InstallFailed(reason.message, hint=_MEND_IMAGE if is_image else _MEND)
    return _of_node(session, reason)


def _of_node(session: Session, reason: Reason) -> SkepError:
    message = f"worker {session.hello.name} could not install: {reason.message}"
    if reason.code == NoSpace.code:
        return NoSpace(message, hint=f"make room on its disk and try again, {_LATER}")
    return NoSandbox(message, hint=f"its log says more; try again, {_LATER}")
