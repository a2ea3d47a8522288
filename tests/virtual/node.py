"""A worker in virtual time: what ``worker.node`` does with deciders, without its sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Final

from tests.virtual.minis import Mini
from tests.virtual.script import Script, Trouble
from tests.virtual.timeline import Host, Timeline
from wire import messages as m
from wire.codec import Message
from worker import actions as act
from worker.actions import Action, Id
from worker.broker import Broker
from worker.credits import Credits, Spent
from worker.pool import Pool, PoolSettings
from worker.results import Results
from worker.speed import LONG_HEAD_S

#: As in ``worker.node``, whose shell this stands for.
TICK_S: Final = 0.1
LATE_S: Final = 0.002
WINDOW_STEP: Final = m.WINDOW_BYTES // 4

Say = Callable[[Message, bytes], None]
Event = Callable[[Broker, float], list[Action]]


class Node:
    """One life of one node, within a session or between two."""

    def __init__(
        self,
        timeline: Timeline,
        name: str,
        script: Script,
        say: Say,
        *,
        life: int = 1,
        slots: int = 2,
        pool: PoolSettings,
    ) -> None:
        self.timeline = timeline
        self.host = Host(timeline)
        self.name = name
        self.boot = f"{name}-{life}"
        self.script = script
        self.slots = slots
        self.broker = Broker(Pool(pool), slots)
        self.results = Results()
        self.credits = Credits()
        self.session = 0
        self.minis: dict[str, Mini] = {}
        self._say = say
        self._hellos = itertools.count(1)
        self._settles = self._ended = self._late = self._watched = False
        self._keys: dict[Id, str] = {}

    def __repr__(self) -> str:
        return f"<Node {self.boot}: {self.broker!r}, session {self.session}>"

    def start(self, tick_s: float = TICK_S) -> None:
        """Let its clock run."""
        self.host.every(tick_s, self.look)

    def look(self) -> None:
        """Do what is due."""
        self.does(lambda broker, now: broker.tick(now))

    def die(self) -> None:
        """End, and its miniworkers with it."""
        self.host.die()
        for mini in self.minis.values():
            mini.is_dead = True

    # --- its session ---

    def hello(self) -> m.Hello:
        """Return who it is, and what it holds."""
        running = {*self.broker.running(), *self.results.ids()}
        return m.Hello(
            node_id=f"id-{self.name}",
            boot=self.boot,
            name=self.name,
            pid=1,
            version="0",
            slots=self.slots,
            sandbox="fake",
            isolation="none",
            running=tuple(sorted(running)),
            number=next(self._hellos),
        )

    def opened(self, session: int) -> None:
        """Grant, and repeat what was not RECORDED."""
        self.session = session
        self.credits.restart()
        self.results.open(session)
        for answer in self.results.owed():
            self._returned(answer)
        if self.broker.is_draining:
            self.beat()
        self.does(lambda _broker, _now: [])

    def lost(self, *, slept: bool) -> None:
        """Keep what was STARTed, drop the rest."""
        self.session = 0
        self.results.lost()
        self.does(lambda broker, now: broker.session_lost(now, slept=slept))

    def heard(self, message: Message, payload: bytes) -> None:
        """Take a message of the open session."""
        id_: Id
        match message:
            case m.Start():
                self._start(message, payload)
            case m.Prepare(call=call, attempt=attempt, key=key):
                id_ = (call, attempt)
                self.credits.spent(key, 0)
                self.does(lambda broker, now: broker.prepare(id_, key, now))
            case m.Recorded(upto=upto):
                self._recorded(upto)
            case m.ApiHeartbeat(received=received):
                self.results.received(received)
                self.does(lambda _broker, _now: [])
            case m.Cancel(call=call, attempt=attempt, reason=reason):
                id_ = (call, attempt)
                if id_ not in self.results:
                    self.does(lambda broker, now: broker.cancel(id_, reason, now))
            case _:
                self._told(message)

    def _told(self, message: Message) -> None:
        match message:
            case m.Drain():
                orders = self.broker.drain(self.timeline.now)
                # First that it drains: else what it hands back could be sent here again.
                self.beat()
                self.does(lambda _broker, _now: orders)
            case m.Resume():
                self.broker.resume()
                self.beat()
                self._settle()

    def beat(self) -> None:
        """Say that it lives."""
        if self.session:
            pool = self.broker.pool
            self._say(
                m.WorkerHeartbeat(
                    session=self.session,
                    seen=self.credits.seen,
                    received=self.credits.received,
                    running=len(self.broker.running()),
                    sandboxes=pool.alive(),
                    state="draining" if self.broker.is_draining else "up",
                ),
                b"",
            )

    def key_of(self, id_: Id) -> str:
        """Return the revision that an attempt is of."""
        return self._keys[id_]

    def _start(self, message: m.Start, payload: bytes) -> None:
        id_ = (message.call, message.attempt)
        way: Spent | None = "ahead" if message.ahead else "idle"
        self.credits.spent(message.key, len(payload), None if self.broker.has(id_) else way)
        self._keys[id_] = message.key
        if id_ not in self.results:
            self._carry_out(self.broker.start(message, payload, self.timeline.now))
        # The api knows what it took: it is told together with the end, if that comes soon.
        if self._ended:
            self._settle()
        else:
            self._settle_late()

    def _recorded(self, upto: int) -> None:
        was_full = self.results.is_full
        for id_ in self.results.recorded(upto):
            self._keys.pop(id_, None)
        if was_full:
            self._settle()

    # --- its miniworkers ---

    def hears(self, event: Event) -> None:
        """A miniworker says something: its worker hears it as soon as it can."""
        self.host.run(lambda: self.does(event))

    def hears_later(self, delay_s: float, event: Event) -> None:
        """The same a little later."""
        self.host.after(delay_s, lambda: self.does(event))

    def does(self, event: Event) -> None:
        """Decide, do what was decided, and grant once for all of it."""
        self._carry_out(event(self.broker, self.timeline.now))
        self._settle()

    # --- orders ---

    def _carry_out(self, orders: Iterable[Action]) -> None:
        for order in orders:
            match order:
                case act.End():
                    self._ended = True
                    self.results.hold(order)
                    self._say_results()
                case act.SayReady(id=(call, attempt)):
                    if self.session:
                        ready = m.Ready(session=self.session, call=call, attempt=attempt)
                        self._say(ready, b"")
                case act.SayReturned():
                    self._ended = True
                    self._returned(order)
                case act.FetchParams() | act.ForgetParams() | act.SayProgress():
                    pass
                case _:
                    self._to_sandbox(order)

    def _to_sandbox(self, order: act.ForMini | act.ForErrands | act.Spawn | act.Kill) -> None:
        match order:
            case act.Spawn(name):
                self._spawn(name)
            case act.WantBundle(name, key):
                self._bundle(name, key)
            case act.DropBundle(name):
                self.minis.pop(name, None)
            case act.FetchParams() | act.ForgetParams():
                pass
            case _ if mini := self.minis.get(order.sandbox):
                if isinstance(order, act.Kill):
                    mini.die(order.why)
                else:
                    mini.order(order)

    def _returned(self, order: act.SayReturned) -> None:
        call, attempt = order.id
        if not self.session:
            if order.owed:
                self.results.owe(order)
            return
        self._say(
            m.Returned(
                session=self.session,
                call=call,
                attempt=attempt,
                fault=order.fault,
                reason=order.reason,
                log=order.log,
            ),
            b"",
        )

    def _spawn(self, name: str) -> None:
        self.minis[name] = Mini(self, name)
        self.hears_later(self.script.fork_s(), lambda broker, now: broker.up(name, now))

    def _bundle(self, name: str, key: str) -> None:
        found = self.script.bundle(key)
        if isinstance(found, Trouble):
            fault, reason = found.fault, found.reason
            self.hears_later(
                0.01, lambda broker, now: broker.no_bundle(name, fault, reason, "", now)
            )
            return
        spec = self.script.spec(key)
        self.hears_later(found, lambda broker, now: broker.bundle(name, spec, "bundle", now))

    # --- its clocks ---

    def _settle(self) -> None:
        if not self.session:
            return
        self._say_results()
        now, broker = self.timeline.now, self.broker
        ahead = broker.places_ahead(now)
        full = broker.is_draining or self.results.is_full
        free, lent = (0, 0) if full else broker.granted(now)
        idle = {} if full else broker.pool.counts()
        eager, self._ended = self._ended, False
        credit = self.credits.next(
            self.session, free, idle, ahead, WINDOW_STEP, lent=lent, eager=eager
        )
        if credit is not None:
            self._say(credit, b"")
        if self.credits.is_behind:
            self._settle_late()
        if not self._watched and (ahead or broker.watches(now)):
            self._watched = True
            self.host.after(LONG_HEAD_S, self._look_at_heads)

    def _settle_late(self) -> None:
        if not self._late:
            self._late = True
            self.host.after(LATE_S, self._is_late)

    def _is_late(self) -> None:
        self._late = False
        self._ended = True
        self._settle()

    def _look_at_heads(self) -> None:
        self._watched = False
        self.does(lambda broker, now: broker.recall(now))

    def _say_results(self) -> None:
        for result, payload in self.results.take():
            self._say(result, bytes(payload))
