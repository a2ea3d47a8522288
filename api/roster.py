"""The sessions of workers: who is there, what each may be given, who has gone.

A node is (node id, boot id); its *name* belongs to one living node at a time. A session is
named by its number and by the route its frames come from: a frame fits only if both do.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict, deque
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
    #: An operator said that it takes nothing new, whether the worker has heard of it or not.
    is_set_aside: bool = False
    heartbeat: WorkerHeartbeat | None = None
    #: PREPAREs since then that may take a generic sandbox: their place among what was sent,
    #: and the runtime.
    claims: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=1000))
    _generic: dict[str, int] = field(default_factory=dict)
    heard_ms: int = 0

    def __repr__(self) -> str:
        return f"<Session {self.number} of {self.hello.name}, {len(self.attempts)} attempts>"

    @property
    def is_draining(self) -> bool:
        """Return whether it is given nothing new: it takes leave, or was set aside."""
        return self.is_set_aside or self.says_draining

    @property
    def says_draining(self) -> bool:
        """Return whether the worker itself says that it wants nothing new."""
        return self.heartbeat is not None and self.heartbeat.state == "draining"

    @property
    def is_drained(self) -> bool:
        """Return whether it has heard that it drains, and nothing is left there."""
        beat = self.heartbeat
        return (
            self.says_draining and not self.attempts and beat is not None and not beat.running
        )

    @property
    def takes_work(self) -> bool:
        """Return whether anything new may be sent there."""
        # Asked several times for each call.
        if self.pulse is not Pulse.ALIVE or self.is_set_aside:
            return False
        return self.heartbeat is None or self.heartbeat.state != "draining"

    @property
    def window(self) -> int:
        """Return how many payload bytes may still be put under way."""
        return WINDOW_BYTES - (self.sent_bytes - self.seen_bytes)

    def saw(self, received: int) -> None:
        """The worker has received that many payload bytes in this session."""
        self.seen_bytes = max(self.seen_bytes, min(received, self.sent_bytes))

    def heard(self, heartbeat: WorkerHeartbeat) -> None:
        """Take what the worker says of itself once a second."""
        self.heartbeat, self.pulse = heartbeat, Pulse.ALIVE
        self.saw(heartbeat.received)
        self._generic = dict(heartbeat.generic)
        while self.claims and self.claims[0][0] <= heartbeat.seen:
            self.claims.popleft()

    def generic(self, runtime: str) -> int:
        """Return how many generic sandboxes of a runtime wait there, about."""
        told = self._generic.get(runtime, 0)
        return told and max(0, told - sum(name == runtime for _, name in self.claims))

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

    @classmethod
    def of(cls, session: Session) -> Gone:
        """Return what is kept of a session that ended."""
        return cls(session.hello, session.heard_ms)


class Roster:
    """All open sessions, and the nodes that left lately."""

    def __init__(self, *, token: str = "", first: int = 1) -> None:
        self._token = token
        self._next = first
        self.sessions: dict[int, Session] = {}
        self.gone: OrderedDict[str, Gone] = OrderedDict()
        #: Nodes that were set aside, and in which life: a worker that is started anew is not.
        self._set_aside: dict[str, str] = {}
        #: Those that were given work again, which may not have heard of it.
        self._taken_back: dict[str, str] = {}

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

    def is_outdated(self, hello: Hello) -> bool:
        """Return whether the same life of the node has said a later HELLO, that was read first.

        It was said on another connection; it knows nothing of what was STARTed since.
        """
        before = self.same_node(hello.node_id)
        return (
            before is not None
            and before.hello.boot == hello.boot
            and before.hello.number > hello.number
        )

    def same_node(self, node_id: str) -> Session | None:
        """Return the open session of this node."""
        found = (s for s in self.sessions.values() if s.hello.node_id == node_id)
        return next(found, None)

    def named(self, name: str) -> Session | None:
        """Return the open session of the node that is called so."""
        found = (s for s in self.sessions.values() if s.hello.name == name)
        return next(found, None)

    def set_aside(self, session: Session) -> None:
        """Give this life of a node nothing new, also in sessions that follow."""
        session.is_set_aside = True
        self._set_aside[session.hello.node_id] = session.hello.boot
        self._taken_back.pop(session.hello.node_id, None)

    def take_back(self, session: Session) -> None:
        """Give a node work again."""
        session.is_set_aside = False
        self._set_aside.pop(session.hello.node_id, None)
        self._taken_back[session.hello.node_id] = session.hello.boot

    def was_taken_back(self, hello: Hello) -> bool:
        """Return whether this life of a node was given work again after it was set aside."""
        return self._taken_back.get(hello.node_id) == hello.boot

    def forget(self, name: str) -> Gone | None:
        """Forget a node that is gone."""
        gone = self.gone.pop(name, None)
        if gone is not None:
            self._set_aside.pop(gone.hello.node_id, None)
            self._taken_back.pop(gone.hello.node_id, None)
        return gone

    def open(self, route: bytes, hello: Hello) -> Session:
        """Open a session; the number is never one of an earlier life of the api."""
        session = Session(self._next, route, hello)
        session.is_set_aside = self._set_aside.get(hello.node_id) == hello.boot
        if not session.is_set_aside:
            self._set_aside.pop(hello.node_id, None)
        if not self.was_taken_back(hello):
            self._taken_back.pop(hello.node_id, None)
        self._next += 1
        self.sessions[session.number] = session
        self.gone.pop(hello.name, None)
        return session

    def close(self, number: int) -> Session | None:
        """Forget a session; its node is shown as gone."""
        session = self.sessions.pop(number, None)
        if session is not None:
            self.gone[session.hello.name] = Gone.of(session)
            if len(self.gone) > MAX_GONE:
                self.gone.popitem(last=False)
        return session

    def by_route(self, route: bytes, number: int) -> Session | None:
        """Return the session that a frame belongs to; None if it fits none."""
        session = self.sessions.get(number)
        return session if session is not None and session.route == route else None
