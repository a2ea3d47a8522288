"""The sockets to workers: ROUTER for what is true, PUB for hints; sessions and heartbeats.

Frames in become events of dispatch, its actions become frames out. A frame of a session that
is not open is answered WHO; garbage is counted and dropped, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import zmq

from api.actions import Action
from api.assembly import Assembly, Whole
from api.catalogue import Catalogue
from api.courier import Courier
from api.dispatch import Dispatch, Output
from api.preparing import Preparing
from api.revival import remember
from api.roster import Roster, Session
from api.store import boot_time
from api.strangers import Strangers
from wire import codec, releases
from wire.codec import Message
from wire.counting import Drops
from wire.errors import ProtocolError, SkepError, WrongVersion
from wire.liveness import Liveness, Pulse
from wire.messages import (
    FROM_WORKER,
    TOPIC_CANCEL,
    TOPIC_CATALOGUE,
    ApiHeartbeat,
    Bundled,
    BundleLog,
    Bye,
    Cancel,
    Credit,
    Fetch,
    Hello,
    Progress,
    Ready,
    Recorded,
    Refuse,
    Result,
    Returned,
    Sync,
    Who,
    WorkerHeartbeat,
)
from wire.messages import Catalogue as CatalogueMessage
from wire.models import Reason, Status
from wire.process import release
from wire.sockets import Link, bind, open_socket, remove_file

log = logging.getLogger(__name__)

FRAMES: Final = 1 + codec.FRAMES
#: An answer to bytes received before the next heartbeat is due.
TELL_BYTES: Final = 2 << 20
#: A hint that a subscriber is too slow for is dropped: heartbeats heal it.
MAX_HINTS: Final = 10_000

Perform = Callable[[Iterable[Action]], None]
Adopt = Callable[[Session, Result, Output, bytes], None]


class Hub:
    """All open sessions on their sockets."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        workers_bind: str,
        pub_bind: str,
        roster: Roster,
        dispatch: Dispatch,
        catalogue: Catalogue,
        courier: Courier,
        preparing: Preparing,
        assembly: Assembly,
        max_result: int,
        perform: Perform,
        adopt: Adopt,
    ) -> None:
        self._roster = roster
        self._dispatch = dispatch
        self._catalogue = catalogue
        self._courier = courier
        self._preparing = preparing
        self._assembly = assembly
        self._max_result = max_result
        self._perform = perform
        self._adopt = adopt
        self._liveness: Liveness[int] = Liveness()
        self._recorded: dict[int, tuple[bytes, Recorded]] = {}
        self.drops = Drops()
        self.strangers = Strangers()
        router = open_socket(context, zmq.ROUTER)
        self._pub = open_socket(context, zmq.PUB)
        self._pub.set(zmq.SNDHWM, MAX_HINTS)
        self.workers_endpoint = bind(router, workers_bind)
        self.pub_endpoint = bind(self._pub, pub_bind)
        self._link = Link(router, FRAMES, self._on_message, self.drops)
        self._handlers = self._by_type()

    def _by_type(self) -> dict[type[Message], Callable[[Session, Any, bytes], None]]:
        return {
            Credit: self._credit,
            WorkerHeartbeat: self._heartbeat,
            Ready: self._ready,
            Progress: self._progress,
            Returned: self._returned,
            Result: self._result,
            Fetch: self._fetch,
            Sync: self._sync,
            Bye: self._bye,
            BundleLog: self._ticket,
            Bundled: self._ticket,
        }

    def __repr__(self) -> str:
        return f"<Hub at {self.workers_endpoint}, {self._roster!r}>"

    def send(self, session: Session, message: Message, payload: bytes = b"") -> None:
        """Hand a message to a session's worker; bytes were counted by who decided it."""
        if isinstance(message, Recorded):
            self._record_soon(session, message)
        else:
            self._link.send((session.route, *codec.encode(message, payload)))

    def _record_soon(self, session: Session, message: Recorded) -> None:
        """Tell only the highest number of all that one batch of records made durable."""
        if not self._recorded:
            asyncio.get_running_loop().call_soon(self._tell_recorded)
        self._recorded[session.number] = session.route, message

    def _tell_recorded(self) -> None:
        recorded, self._recorded = self._recorded, {}
        for route, message in recorded.values():
            self._link.send((route, *codec.encode(message)))

    def publish(self, message: CatalogueMessage | Cancel) -> None:
        """Give every worker a hint."""
        topic = TOPIC_CANCEL if isinstance(message, Cancel) else TOPIC_CATALOGUE
        self._pub.send_multipart((topic, *codec.encode(message)), zmq.NOBLOCK)

    def beat(self) -> None:
        """Once a second: judge who is silent, and say that we are here."""
        self._link.drain()
        now = boot_time()
        for number, pulse in self._liveness.judge(now).items():
            session = self._roster.sessions.get(number)
            if session is None:
                self._liveness.forget(number)
            elif pulse is Pulse.LOST:
                log.warning("worker %s is lost: 10 s silent", session.hello.name)
                self._close(session)
            elif pulse is not session.pulse:
                log.info("worker %s is %s", session.hello.name, pulse.value)
                self._perform(self._dispatch.pulse(session, pulse, now))
        for session in self._roster.sessions.values():
            self._tell(session)

    def close(self) -> None:
        """Close both sockets, and leave no file of them."""
        self._link.close()
        self._pub.close(linger=0)
        remove_file(self.workers_endpoint)
        remove_file(self.pub_endpoint)

    def _on_message(self, frames: list[bytes]) -> None:
        route = frames[0]
        try:
            message, payload = FROM_WORKER.decode(frames[1:])
        except WrongVersion:
            self._estrange(route, frames[1:])
            return
        except ProtocolError as error:
            self._reject(error)
            return
        if isinstance(message, Hello):
            self._hello(route, message)
            return
        session = self._roster.by_route(route, getattr(message, "session", 0))
        if session is None:
            self._answer(route, Who())
            return
        self._liveness.heard(session.number, boot_time())
        session.heard_ms = time.time_ns() // 1_000_000
        session.received_bytes += len(payload)
        try:
            self._handlers[type(message)](session, message, payload)
        except ProtocolError as error:
            self._reject(error)
        if session.received_bytes - session.told_bytes >= TELL_BYTES:
            self._tell(session)

    def _reject(self, error: ProtocolError) -> None:
        self.drops.garbage += 1
        log.warning("dropped a message: %s", error)

    def _estrange(self, route: bytes, frames: list[bytes]) -> None:
        """Refuse one that speaks another protocol version; it asks again every few seconds."""
        self.drops.garbage += 1
        who = releases.stranger(frames, Hello)
        if who is None:
            return
        theirs = releases.named("worker", who.name, who.release)
        ours = releases.named("api", "", release())
        error = releases.refusal(theirs, who.protocol, ours)
        self._refuse(route, error)
        if self.strangers.heard(who, error.message, time.time_ns() // 1_000_000):
            log.warning("refused: %s (%s)", error.message, error.hint)

    def _refuse(self, route: bytes, error: SkepError) -> None:
        refuse = Refuse(code=error.code, message=error.message, hint=error.hint)
        self._answer(route, refuse)

    def _answer(self, route: bytes, message: Message) -> None:
        self._link.send((route, *codec.encode(message)))

    def _hello(self, route: bytes, hello: Hello) -> None:
        if (error := self._roster.check(hello)) is not None:
            log.warning("refused worker %s: %s", hello.name, error)
            self._refuse(route, error)
            return
        if self._roster.is_outdated(hello):
            log.info("an older HELLO of worker %s came late", hello.name)
            return
        self.strangers.joined(hello.name)
        before = self._roster.same_node(hello.node_id)
        place = (self._catalogue.epoch, self._catalogue.seq)
        now = boot_time()
        session, actions = self._dispatch.hello(route, hello, place, now)
        if before is not None and before is not session:
            self._forget(before)
        if hello.packs:
            self._link.pack_for(route)
        session.heard_ms = time.time_ns() // 1_000_000
        self._liveness.heard(session.number, now)
        self._perform(actions)
        log.info("worker %s is here: session %d", hello.name, session.number)
        self.send(session, self._catalogue.answer(session.number, hello.epoch, hello.seq))

    def _credit(self, session: Session, credit: Credit, _: bytes) -> None:
        self._perform(self._dispatch.credit(session, credit, boot_time()))
        self._courier.moved(session)

    def _heartbeat(self, session: Session, heartbeat: WorkerHeartbeat, _: bytes) -> None:
        self._perform(self._dispatch.nodes.beat(session, heartbeat, boot_time()))
        self._courier.moved(session)

    def _ready(self, session: Session, ready: Ready, _: bytes) -> None:
        self._perform(self._dispatch.ready(session, ready, boot_time()))

    def _progress(self, session: Session, progress: Progress, _: bytes) -> None:
        self._dispatch.progress(session, progress)

    def _returned(self, session: Session, returned: Returned, _: bytes) -> None:
        self._perform(self._dispatch.returned(session, returned, boot_time()))

    def _result(self, session: Session, result: Result, payload: bytes) -> None:
        whole = self._assembly.add(result, payload)
        if whole is None:
            return
        if whole.over or len(whole.result) > self._max_result:
            result, whole = (
                _too_large(result, self._max_result),
                Whole(whole.params, b"", b"", b""),
            )
        output = Output(whole.result, whole.stdout, whole.stderr)
        live = self._dispatch.calls.get(result.call)
        if live is None and result.record:
            self._adopt(session, result, output, whole.params)
        else:
            if live is not None and result.record:
                remember(live, result.attempt, result.record)
            self._perform(self._dispatch.result(session, result, output, boot_time()))
        if result.credit is not None:
            self._courier.moved(session)

    def _fetch(self, session: Session, fetch: Fetch, _: bytes) -> None:
        self._courier.fetch(session, fetch)

    def _sync(self, session: Session, sync: Sync, _: bytes) -> None:
        answer = self._catalogue.answer(session.number, sync.epoch, sync.seq, sync.keys)
        self.send(session, answer)

    def _ticket(self, session: Session, message: BundleLog | Bundled, _: bytes) -> None:
        self._preparing.heard(session, message)

    def _bye(self, session: Session, _: Bye, __: bytes) -> None:
        log.info("worker %s left", session.hello.name)
        self._close(session)

    def _close(self, session: Session) -> None:
        self._perform(self._dispatch.lost(session, boot_time()))
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self._link.forget(session.route)
        self._liveness.forget(session.number)
        self._assembly.drop(session.number)
        self._courier.drop(session)
        self._preparing.lost(session)

    def _tell(self, session: Session) -> None:
        session.told_bytes = session.received_bytes
        heartbeat = ApiHeartbeat(
            session=session.number,
            epoch=self._catalogue.epoch,
            seq=self._catalogue.seq,
            received=session.received_bytes,
        )
        self.send(session, heartbeat)


def _too_large(result: Result, limit: int) -> Result:
    """Return the end of an attempt whose result may not be kept."""
    if result.outcome is None or result.outcome.status is not Status.DONE:
        return result
    reason = Reason(code="result_too_large", message=f"its result is over {limit} bytes")
    outcome = msgspec.structs.replace(
        result.outcome, status=Status.FAILED, reason=reason, result_type="text"
    )
    return msgspec.structs.replace(result, outcome=outcome)
