"""An api in virtual time: what its shell does with dispatch, without sockets and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec

from api.actions import Action, Ended, Send, Write
from api.assembly import Assembly, Whole
from api.backlog import Backlog
from api.chooser import Chooser
from api.dispatch import Dispatch, Output
from api.live import Live
from api.outbox import Outbox
from api.past import Past, repeated
from api.reunion import Policy
from api.revival import remember, revive
from api.roster import Roster, Session
from tests.virtual.store import Acks, Store
from tests.virtual.timeline import Host, Timeline
from wire import messages as m
from wire.codec import Message
from wire.liveness import HEARTBEAT_S, Liveness, Pulse
from wire.models import CallRecord, Spec

#: As in the shells that this stands for.
TICK_S: Final = 0.1
LAZY_S: Final = 0.25
STORE_AGAIN_S: Final = 0.5
SESSIONS_PER_EPOCH: Final = 1 << 24
#: The wall clock when virtual time began, in ms since 1970.
WALL_MS: Final = 1_700_000_000_000

Post = Callable[[bytes, Message, bytes], None]


class Api:
    """One life of the api."""

    def __init__(
        self,
        timeline: Timeline,
        store: Store,
        specs: Mapping[str, Spec],
        post: Post,
        *,
        chooser: Chooser,
        unfinished: Policy = "requeue",
        on_ended: Callable[[Live], object] = lambda _: None,
        on_durable: Callable[[int, int], object] = lambda _num, _rev: None,
        keeps_records: bool = True,
    ) -> None:
        """``post`` takes what goes to a route; ``on_…`` are told what a client would be.

        Without ``keeps_records`` all is durable after a moment, and nothing is stored.
        """
        self.timeline = timeline
        self.host = Host(timeline)
        self.epoch = store.open()
        self.roster = Roster(first=self.epoch * SESSIONS_PER_EPOCH + 1)
        self.backlog = Backlog(max_calls=1_000_000, max_bytes=1 << 40)
        self.dispatch = Dispatch(
            self.roster, self.backlog, api="api", epoch=self.epoch, chooser=chooser
        )
        self.recorder = Recorder(self, store)
        self._keeps_records = keeps_records
        self._store = store
        self._specs = specs
        self._post = post
        self._unfinished = unfinished
        self._on_ended = on_ended
        self._on_durable = on_durable
        self._assembly = Assembly(1 << 30)
        self._liveness: Liveness[int] = Liveness()
        self._past = Past()
        lives = [self._revived(record) for record in store.unfinished()]
        for live in lives:
            self.dispatch.recover(live)
        self._past.expect(lives, timeline.now)

    def __repr__(self) -> str:
        return f"<Api epoch {self.epoch}: {self.dispatch!r}>"

    def start(self, tick_s: float = TICK_S) -> None:
        """Let its clocks run."""
        self.host.every(tick_s, self._tick)
        self.host.every(HEARTBEAT_S, self._beat)

    # --- from clients ---

    def accept(self, live: Live) -> None:
        """Take a call."""
        self.perform(self.dispatch.accept(live, self.timeline.now))

    def cancel(self, num: int) -> None:
        """End a call."""
        self.perform(self.dispatch.cancel(num, self.timeline.now))

    # --- from workers ---

    def receive(self, route: bytes, message: Message, payload: bytes) -> None:
        """Take a message that came by a route."""
        if isinstance(message, m.Hello):
            self._hello(route, message)
            return
        session = self.roster.by_route(route, getattr(message, "session", 0))
        if session is None:
            self._post(route, m.Who(), b"")
            return
        self._liveness.heard(session.number, self.timeline.now)
        session.received_bytes += len(payload)
        self._sort(session, message, payload)

    def _hello(self, route: bytes, hello: m.Hello) -> None:
        if self.roster.check(hello) is not None or self.roster.is_outdated(hello):
            return
        before = self.roster.same_node(hello.node_id)
        session, actions = self.dispatch.hello(route, hello, ("e", 1), self.timeline.now)
        if before is not None and before is not session:
            self._forget(before)
        self._liveness.heard(session.number, self.timeline.now)
        self.perform(actions)

    def _sort(self, session: Session, message: Message, payload: bytes) -> None:
        dispatch, now = self.dispatch, self.timeline.now
        match message:
            case m.Credit():
                self.perform(dispatch.credit(session, message, now))
            case m.Result():
                self._result(session, message, payload)
            case m.Ready():
                self.perform(dispatch.ready(session, message, now))
            case m.Returned():
                self.perform(dispatch.returned(session, message, now))
            case m.WorkerHeartbeat():
                self.perform(dispatch.nodes.beat(session, message, now))

    def _result(self, session: Session, result: m.Result, payload: bytes) -> None:
        whole = self._assembly.add(result, payload)
        if whole is None:
            return
        output = Output(whole.result, whole.stdout, whole.stderr)
        live = self.dispatch.calls.get(result.call)
        if live is None and result.record:
            # The store is asked first, which takes a moment.
            self.host.after(0.002, lambda: self._adopt(session, result, output, whole))
            return
        if live is not None and result.record:
            remember(live, result.attempt, result.record)
        self.perform(self.dispatch.result(session, result, output, self.timeline.now))

    def _adopt(self, session: Session, result: m.Result, output: Output, whole: Whole) -> None:
        kept = self._store.find(result.call)
        if kept is None or not kept.call.status.is_terminal:
            record = repeated(result.record, whole.params)
            live = self._revived(record)
            live.durable_rev = kept.rev if kept is not None else 0
            if live.num not in self.dispatch.calls:
                if kept is not None:
                    live.rev = max(kept.rev, record.rev)
                self.dispatch.recover(live)
        self.perform(self.dispatch.result(session, result, output, self.timeline.now))

    def _revived(self, record: CallRecord) -> Live:
        call = record.call
        key = f"{call.project}/{call.func_name}@{call.revision}.{record.runtime_revision}"
        now_ms = WALL_MS + round(self.timeline.now * 1000)
        return revive(record, self._specs[key], self.timeline.now, now_ms)

    # --- what was decided ---

    def perform(self, actions: Iterable[Action]) -> None:
        """Do it."""
        for action in actions:
            match action:
                case Send(session, message, payload):
                    self._post(session.route, message, payload)
                case Write(live, urgent) if self._keeps_records:
                    self.recorder.put(live, urgent=urgent)
                case Write(Live(num=num, rev=rev)):
                    self.host.after(0.002, partial(self.durable, num, rev))
                case Ended(live):
                    self._on_ended(live)

    def durable(self, num: int, rev: int) -> None:
        """A revision is stored: whoever waits for that is answered."""
        self._on_durable(num, rev)
        self.perform(self.dispatch.durable(num, rev, self.timeline.now))

    # --- its clocks ---

    def _tick(self) -> None:
        now = self.timeline.now
        self.perform(self.dispatch.tick(now))
        back = {session.hello.node_id for session in self.roster.sessions.values()}
        if self._past.is_due(back, now):
            self.perform(self.dispatch.judge(self._unfinished, now))

    def _beat(self) -> None:
        now = self.timeline.now
        for number, pulse in self._liveness.judge(now).items():
            session = self.roster.sessions.get(number)
            if session is None:
                self._liveness.forget(number)
            elif pulse is Pulse.LOST:
                self.perform(self.dispatch.lost(session, now))
                self._forget(session)
            elif pulse is not session.pulse:
                self.perform(self.dispatch.pulse(session, pulse, now))
        for session in self.roster.sessions.values():
            session.told_bytes = session.received_bytes
            beat = m.ApiHeartbeat(
                session=session.number, epoch="e", seq=1, received=session.received_bytes
            )
            self._post(session.route, beat, b"")

    def _forget(self, session: Session) -> None:
        self._liveness.forget(session.number)
        self._assembly.drop(session.number)


class Recorder:
    """What ``api.recorder`` does with the outbox: one batch under way, urgent ones at once."""

    def __init__(self, api: Api, store: Store) -> None:
        self.outbox = Outbox(max_records=1_000_000, max_bytes=1 << 40)
        self._api = api
        self._store = store
        self._lives: dict[int, Live] = {}
        self._is_lazy = False

    def __repr__(self) -> str:
        return f"<Recorder {self.outbox!r}>"

    def put(self, live: Live, *, urgent: bool) -> None:
        """The record of a call has a new revision."""
        self.outbox.put(live.num, live.rev, live.size, self._api.timeline.now)
        self._lives[live.num] = live
        if urgent or self.outbox.is_crowded:
            # Not in the middle of what is being decided.
            self._api.host.after(0.0, self._write)
        elif not self._is_lazy:
            self._is_lazy = True
            self._api.host.after(LAZY_S, self._rise)

    def _rise(self) -> None:
        self._is_lazy = False
        self._write()

    def _write(self) -> None:
        if self.outbox.is_idle and (batch := self.outbox.take()):
            self._send(tuple(self._record(num) for num, _ in batch))

    def _record(self, num: int) -> CallRecord:
        live = self._lives[num]
        params = msgspec.Raw(b"") if live.durable_rev else None
        return live.record("api", self._api.epoch, params)

    def _send(self, records: tuple[CallRecord, ...]) -> None:
        host = self._api.host
        self._store.write(
            self._api.epoch, records, lambda acks: host.run(lambda: self._told(records, acks))
        )

    def _told(self, records: tuple[CallRecord, ...], acks: Acks | None) -> None:
        if acks is None:
            self._api.host.after(STORE_AGAIN_S, lambda: self._send(records))
            return
        self.outbox.acked()
        for num, rev in acks:
            live = self._lives.get(num)
            if live is not None and live.rev <= rev:
                del self._lives[num]
            self._api.durable(num, rev)
        if self.outbox and not self._is_lazy:
            self._write()
