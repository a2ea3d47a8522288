"""The state of this node's session with its api: when to join, and when it is lost. Pure.

A session begins with a fresh socket and HELLO, and is over for good when the api is silent,
says WHO or REFUSE, or when this process itself stood still for too long: the api has judged
it by then. Every beginning has a fresh socket, so nothing of an old session can follow.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from wire.liveness import LOST_S
from wire.messages import Refuse, Welcome, Who

#: How long HELLO may stay unanswered; it grows while nobody is there.
ANSWER_S: Final = 1.0
LONGEST_S: Final = 5.0
GROWTH: Final = 1.5


class Order(enum.Enum):
    """What the shell has to do."""

    #: Close the socket if there is one, make a new one, say HELLO.
    HELLO = "hello"
    #: A session is open: grant, and send what is held.
    OPENED = "opened"
    #: The session is over: close the socket, drop what was only PREPAREd.
    LOST = "lost"
    #: As LOST, and this node itself had stood still: drop all that has not begun.
    SLEPT = "slept"


@dataclass(slots=True)
class Session:
    """One session after another with one api."""

    lost_s: float = LOST_S
    #: 0 while there is none.
    number: int = 0
    api: str = ""
    #: Why the api refused the last HELLO; None once it answered otherwise.
    refused: Refuse | None = None
    _wait_s: float = ANSWER_S
    _again_at: float = 0.0
    _heard_at: float = 0.0
    _ticked_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether there is a session."""
        return self.number > 0

    def tick(self, now: float) -> list[Order]:
        """Let time pass. Read the socket first; ``now`` must not stop while suspended."""
        slept = self.is_late(now)
        self._ticked_at = now
        if self.is_open and slept:
            return self._lose(now, Order.SLEPT)
        if self.is_open and now - self._heard_at >= self.lost_s:
            return self._lose(now, Order.LOST)
        if not self.is_open and now >= self._again_at:
            return self._hello(now)
        return []

    def is_late(self, now: float) -> bool:
        """Return whether this process has stood still longer than the api waits."""
        return self._ticked_at is not None and now - self._ticked_at > self.lost_s

    def heard(self, session: int, now: float) -> bool:
        """Note a message of a session; return whether it is of this one."""
        if not self.is_open or session != self.number:
            return False
        self._heard_at = now
        return True

    def answer(self, message: Welcome | Refuse | Who, now: float) -> list[Order]:
        """Take the api's answer to HELLO, or its word that it knows no such session."""
        if isinstance(message, Welcome):
            return self._open(message, now)
        if isinstance(message, Refuse):
            self.refused = message
            self._again_at = now + self._grow()
        if self.is_open:
            return self._lose(now, Order.LOST)
        return []

    def _open(self, message: Welcome, now: float) -> list[Order]:
        if self.is_open:
            return []
        self.number, self.api = message.session, message.api
        self.refused = None
        self._heard_at = now
        self._wait_s = ANSWER_S
        return [Order.OPENED]

    def _lose(self, now: float, order: Order) -> list[Order]:
        self.number = 0
        return [order, *self._hello(now)]

    def _hello(self, now: float) -> list[Order]:
        self._again_at = now + self._grow()
        return [Order.HELLO]

    def _grow(self) -> float:
        wait_s = self._wait_s
        self._wait_s = min(LONGEST_S, wait_s * GROWTH)
        return wait_s
