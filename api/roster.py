"""The sessions of workers: who is there, what each may be given, who has gone.

A node is (node id, boot id); its *name* belongs to one living node at a time. A session is
named by its number and by the route its frames come from: a frame fits only if both do.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from api.ledger import Ledger
from api.receipts import Receipts
from wire.errors import Conflict, SkepError, Unauthorized
from wire.liveness import Pulse
from wire.messages import WINDOW_BYTES, Hello, WorkerHeartbeat

#: How many nodes that left are still shown.
MAX_GONE: Final = 100


@dataclass(slots=True, eq=False)
class Session:
    """One open session and all that is counted for it."""

    number: int
    route: bytes
    hello: Hello
    ledger: Ledger = field(default_factory=Ledger)
    receipts: Receipts = field(default_factory=Receipts)
    #: callNums of the attempts that are there, in order of their sending.
    attempts: OrderedDict[int, None] = field(default_factory=OrderedDict)
    #: PREPAREd calls by key, oldest first: an idle sandbox may serve them early.
    prepared: dict[str, OrderedDict[int, None]] = field(default_factory=dict)
    pulse: Pulse = Pulse.ALIVE
    #: Payload bytes: sent to it and seen by it, received from it and told to it.
    sent_bytes: int = 0
    seen_bytes: int = 0
    received_bytes: int = 0
    told_bytes: int = 0
    credited: bool = False
    heartbeat: WorkerHeartbeat | None = None
    heard_ms: int = 0

    def __repr__(self) -> str:
        return f"<Session {self.number} of {self.hello.name}, {len(self.attempts)} attempts>"

    @property
    def is_draining(self) -> bool:
        """Return whether the worker takes leave and wants nothing new."""
        return self.heartbeat is not None and self.heartbeat.state == "draining"

    @property
    def takes_work(self) -> bool:
        """Return whether anything new may be sent there."""
        return self.pulse is Pulse.ALIVE and not self.is_draining

    @property
    def window(self) -> int:
        """Return how many payload bytes may still be put under way."""
        return WINDOW_BYTES - (self.sent_bytes - self.seen_bytes)

    def saw(self, received: int) -> None:
        """The worker has received that many payload bytes in this session."""
        self.seen_bytes = max(self.seen_bytes, min(received, self.sent_bytes))

    def prepare(self, key: str, num: int) -> None:
        """A PREPARE went out."""
        self.prepared.setdefault(key, OrderedDict())[num] = None

    def unprepare(self, key: str, num: int) -> None:
        """The PREPAREd attempt got its START, came back or ended; unknown ones are fine."""
        queue = self.prepared.get(key)
        if queue is not None and num in queue:
            del queue[num]
            if not queue:
                del self.prepared[key]


@dataclass(frozen=True, slots=True)
class Gone:
    """A node whose session ended, for people."""

    hello: Hello
    heard_ms: int


class Roster:
    """All open sessions, and the nodes that left lately."""

    def __init__(self, *, token: str = "", first: int = 1) -> None:
        self._token = token
        self._next = first
        self.sessions: dict[int, Session] = {}
        self.gone: OrderedDict[str, Gone] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Roster {len(self.sessions)} sessions, {len(self.gone)} gone>"

    def check(self, hello: Hello) -> SkepError | None:
        """Return why this worker gets no session; None if it does."""
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            return Unauthorized(
                f"worker {hello.name} has not the api's token",
                hint="start it with the same --token (SKEP_TOKEN) as the api",
            )
        for other in self.sessions.values():
            if other.hello.name == hello.name and other.hello.node_id != hello.node_id:
                return Conflict(
                    f"another living node is called {hello.name}",
                    hint="give this worker another --name, or stop the other one",
                )
        return None

    def same_node(self, node_id: str) -> Session | None:
        """Return the open session of this node."""
        found = (s for s in self.sessions.values() if s.hello.node_id == node_id)
        return next(found, None)

    def open(self, route: bytes, hello: Hello) -> Session:
        """Open a session; the number is never one of an earlier life of the api."""
        session = Session(self._next, route, hello)
        self._next += 1
        self.sessions[session.number] = session
        self.gone.pop(hello.name, None)
        return session

    def close(self, number: int) -> Session | None:
        """Forget a session; its node is shown as gone."""
        session = self.sessions.pop(number, None)
        if session is not None:
            self.gone[session.hello.name] = Gone(session.hello, session.heard_ms)
            if len(self.gone) > MAX_GONE:
                self.gone.popitem(last=False)
        return session

    def by_route(self, route: bytes, number: int) -> Session | None:
        """Return the session that a frame belongs to; None if it fits none."""
        session = self.sessions.get(number)
        return session if session is not None and session.route == route else None
