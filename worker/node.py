"""The shell of a node: carries messages between the api, the deciders and miniworkers.

What is decided is decided in ``broker``, ``pool``, ``session``, ``catalogue``, ``results``
and ``credits``; here are the sockets, the clock and what takes time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import zmq

from wire import jobs
from wire import messages as m
from wire.codec import Message, Payload
from wire.liveness import HEARTBEAT_S
from wire.process import release
from worker import actions as act
from worker import memory
from worker.broker import Broker
from worker.builds import Builds
from worker.bundles import Bundles
from worker.catalogue import Replica
from worker.credits import Credits, Spent
from worker.diary import Diary
from worker.errands import Errands
from worker.fetcher import Fetcher
from worker.folder import NodeFolder
from worker.lookup import Lookup
from worker.minis import Minis
from worker.pool import Pool
from worker.preload import Preload
from worker.pressure import Reading
from worker.pulls import Pulls
from worker.results import Results
from worker.sandbox import SandboxKind
from worker.settings import Settings
from worker.speed import LONG_HEAD_S
from worker.tickets import Tickets
from worker.uplink import Uplink
from worker.voice import Voice

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
#: How long a CREDIT may wait for an end when all it has to tell is what was begun.
LATE_S: Final = 0.002
#: The api's window is opened again after so many bytes.
WINDOW_STEP: Final = m.WINDOW_BYTES // 4


class Node:
    """One life of one node; made on the running loop, ended by ``stop``."""

    def __init__(
        self,
        settings: Settings,
        folder: NodeFolder,
        boot: str,
        kind: SandboxKind,
        read_memory: Callable[[], Reading] = memory.read,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._boot = boot
        self._kind = kind
        self._hellos = itertools.count(1)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
        self._loop = asyncio.get_running_loop()
        #: Whether the end of this turn of the loop is waited for; and whether anything has
        #: happened since the api was told last.
        self._settling = self._is_stale = False
        self._is_leaving = False
        #: Set once the node drains and nothing is left to do or to be RECORDED.
        self._finished = asyncio.Event()
        self._long_head: asyncio.TimerHandle | None = None
        #: Whether an attempt ended since the last CREDIT; and when one is due even if none did.
        self._ended = False
        self._late: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._read_memory = read_memory
        replica = Replica()
        preload = Preload(replica, settings.preload, settings.generic)
        self.broker = Broker(Pool(settings.pool, preload), settings.slots)
        self.results = Results()
        self.credits = Credits()
        self.minis = Minis(
            self._context,
            folder,
            kind,
            on_message=self._from_mini,
            on_dying=self._dying,
            on_exit=self._exited,
            zygote_options=settings.log_options,
        )
        self.uplink = Uplink(self._context, settings.api, settings.pub, self)
        self.voice = Voice(self.uplink, self.results)
        self.lookup = Lookup(replica, self.voice.sync)
        self.fetcher = Fetcher(self.voice.fetch)
        build_env = settings.reach.environment(os.environ)
        self.builds = Builds(self.minis, settings.build_s, build_env)
        self.bundles = Bundles(
            folder,
            self.fetcher,
            self.builds.build,
            settings.cache_bytes,
            build_env,
            kind.driver,
        )
        self.pulls = Pulls(self.minis, kind.driver, settings.pull)
        self.errands = Errands(
            self.broker, self._do, self.lookup, self.fetcher, self.bundles, self.pulls
        )
        self.tickets = Tickets(self.bundles, self.pulls, self.voice.of_session)
        self.diary = Diary()

    def __repr__(self) -> str:
        return f"<Node {self._settings.name}: {self.broker!r}, {self.uplink!r}>"

    def start(self) -> None:
        """Begin to serve: the zygote, the session, the clocks."""
        self.minis.start()
        self.uplink.start()
        self._every(TICK_S, self._tick)
        self._every(HEARTBEAT_S, self._beat)

    async def stop(self) -> None:
        """Refuse, let what runs finish within the grace, hand the rest back, leave."""
        self._is_leaving = True
        self._drain()
        try:
            await asyncio.wait_for(self._finished.wait(), self._settings.grace_s)
        except TimeoutError:
            log.warning("leaving with %r and %r", self.broker, self.results)
            self._do(self.broker.abandon("its node was stopped", time.monotonic()))
            self._settle()
        else:
            await self.minis.leave()
        await self._close()

    def _drain(self) -> None:
        """Take nothing new, hand back what has not begun."""
        orders = self.broker.drain(time.monotonic())
        # First that it drains: else what it hands back could be sent here again.
        self._beat()
        self._do(orders)

    def _resume(self) -> None:
        """Take calls again, unless this is the end."""
        if not self._is_leaving:
            self.broker.resume()
            # Before the CREDIT that follows: a draining node is given nothing.
            self._beat()

    async def _close(self) -> None:
        for timer in (*self._timers, *filter(None, (self._long_head, self._late))):
            timer.cancel()
        self.lookup.close()
        await self.tickets.close()
        await self.errands.close()
        await self.minis.close()
        number = self.uplink.session.number
        self.uplink.close(m.Bye(session=number) if number else None)
        await asyncio.to_thread(self._context.term)

    # --- the api (worker.uplink.Listener) ------------------------------------------------

    def hello(self) -> m.Hello:
        """Return who this node is, and what it holds."""
        replica = self.lookup.replica
        running = {*self.broker.running(), *self.results.ids()}
        return m.Hello(
            node_id=self._folder.node_id,
            boot=self._boot,
            name=self._settings.name,
            pid=os.getpid(),
            version=release(),
            slots=self._settings.slots,
            sandbox=self._kind.driver,
            isolation=self._kind.isolation,
            labels=self._settings.labels,
            running=tuple(sorted(running)),
            epoch=replica.epoch,
            seq=replica.seq,
            token=self._settings.token,
            number=next(self._hellos),
            packs=True,
        )

    def opened(self, welcome: m.Welcome) -> None:
        """Grant, repeat what was not RECORDED, and go on fetching."""
        self.credits.restart()
        self.results.open(welcome.session)
        for answer in self.results.owed():
            self.voice.returned(answer)
        self.fetcher.resume(self._loop.time())
        self.lookup.resume()
        if self.broker.is_draining:
            self._beat()
        self._settle_soon()

    def lost(self, *, slept: bool) -> None:
        """Keep what was STARTed, drop the rest."""
        self.results.lost()
        self.tickets.lost()
        self._do(self.broker.session_lost(time.monotonic(), slept=slept))

    def heard(self, message: Message, payload: Payload) -> None:
        """Take a message of the open session."""
        now = time.monotonic()
        match message:
            case m.Start():
                self._start(message, payload, now)
                return
            case m.Prepare():
                self._prepare(message, now)
            case m.Recorded():
                self._recorded(message)
                return
            case m.ApiHeartbeat():
                self.results.received(message.received)
                self.lookup.stands(message.epoch, message.seq)
            case m.Chunk():
                self.credits.received += len(payload)
                self.fetcher.chunk(message, payload, self._loop.time())
            case m.Cancel():
                self._cancel(message, now)
            case m.Catalogue():
                self.lookup.apply(message)
            case _:
                self._told(message)
        self._settle_soon()

    def _told(self, message: Message) -> None:
        """Take what is not about calls."""
        match message:
            case m.Drain():
                log.info("draining, as its api says")
                self._drain()
            case m.Resume():
                log.info("taking calls again, as its api says")
                self._resume()
            case _:
                self.tickets.heard(message)

    def hint(self, message: Message) -> None:
        """Take what was published to all: it only makes things faster."""
        match message:
            case m.Catalogue():
                self.lookup.apply(message)
            case m.Cancel(call=call, attempt=attempt):
                for id_ in self.broker.find(call):
                    if attempt in (0, id_[1]):
                        self._do(self.broker.cancel(id_, message.reason, time.monotonic()))
        self._settle_soon()

    def _prepare(self, message: m.Prepare, now: float) -> None:
        self.credits.spent(message.key, 0)
        self._do(self.broker.prepare((message.call, message.attempt), message.key, now))

    def _start(self, message: m.Start, payload: Payload, now: float) -> None:
        id_ = (message.call, message.attempt)
        way: Spent | None = "ahead" if message.ahead else "idle"
        self.credits.spent(message.key, len(payload), None if self.broker.has(id_) else way)
        if id_ not in self.results:
            for order in self.broker.start(message, payload, now):
                self._carry_out(order)
        # The api knows what it took: it is told together with the end, if that comes soon.
        if self._ended:
            self._settle_soon()
        elif self._late is None:
            self._late = self._loop.call_later(LATE_S, self._settle_late)

    def _recorded(self, message: m.Recorded) -> None:
        was_full = self.results.is_full
        self.results.recorded(message.upto)
        if was_full or self._is_leaving:
            self._settle_soon()

    def _cancel(self, message: m.Cancel, now: float) -> None:
        id_ = (message.call, message.attempt)
        if id_ not in self.results:
            self._do(self.broker.cancel(id_, message.reason, now))

    # --- miniworkers -----------------------------------------------------------------------

    def _from_mini(self, name: str, message: Message, payload: Payload) -> None:
        if isinstance(message, jobs.Dropped):
            self.diary.unread.garbage += message.count
            return
        if self.builds.heard(name, message) or self.pulls.heard(name, message):
            return
        now = time.monotonic()
        match message:
            case jobs.Done():
                self._done(name, message, payload, now)
            case jobs.Ready():
                self._do(self.broker.ready(name, now, message.load_ms))
            case jobs.Up():
                self._do(self.broker.up(name, now))
            case jobs.Returned():
                self._do(self.broker.returned(name, (message.call, message.attempt), now))
            case jobs.Broken():
                self._broken(name, message, now)

    def _done(self, name: str, done: jobs.Done, payload: Payload, now: float) -> None:
        is_first = not self._settling
        id_ = (done.call, done.attempt)
        sizes, outcome, ran_ms = done.sizes, done.outcome, done.ran_ms
        self._do(self.broker.done(name, id_, outcome, sizes, payload, now, ran_ms))
        if is_first:
            # At once, for somebody waits for it; others of this turn go together.
            self._settle()

    def _broken(self, name: str, broken: jobs.Broken, now: float) -> None:
        self.diary.broken(name, broken)
        self.errands.broken(name, broken.reason)
        self._do(self.broker.broken(name, broken.fault, broken.reason, now, broken.log))

    def _dying(self, name: str) -> None:
        self._do(self.broker.dying(name, time.monotonic()))

    def _exited(self, name: str, why: str, handed: int | None) -> None:
        if not (self.builds.exited(name, why) or self.pulls.exited(name, why)):
            self._do(self.broker.exited(name, why, time.monotonic(), handed))

    # --- orders ----------------------------------------------------------------------------

    def _do(self, orders: Iterable[act.Action]) -> None:
        for order in orders:
            self._carry_out(order)
        self._settle_soon()

    def _carry_out(self, order: act.Action) -> None:
        self.diary.note(order)
        match order:
            case act.End():
                self._ended = True
                self.results.hold(order)
            case act.SayReady():
                self.voice.ready(order)
            case act.SayProgress():
                self.voice.progress(order)
            case act.SayReturned():
                self._ended = True
                self.voice.returned(order)
            case act.Spawn():
                self.minis.spawn(order.sandbox)
            case act.Kill():
                self.minis.kill(order.sandbox)
            case act.WantBundle() | act.DropBundle() | act.FetchParams() | act.ForgetParams():
                self.errands.order(order)
            case _:
                self.minis.order(order)

    # --- clocks ----------------------------------------------------------------------------

    def _every(self, period_s: float, work: Callable[[], None]) -> None:
        """Do something again and again, until the node closes."""
        place = len(self._timers)

        def again() -> None:
            self._timers[place] = self._loop.call_later(period_s, again)
            work()

        self._timers.append(self._loop.call_later(period_s, again))

    def _tick(self) -> None:
        self._do(self.broker.tick(time.monotonic()))
        self.fetcher.tick(self._loop.time())

    def _beat(self) -> None:
        now = time.monotonic()
        self._do(self.broker.pressed(self._read_memory(), now))
        self.voice.beat(self.broker, self.credits, self.diary, now)

    def _settle_soon(self) -> None:
        """Tell the api once of all that happens in one turn of the loop."""
        self._is_stale = True
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle_turn)

    def _settle_turn(self) -> None:
        self._settling = False
        if self._is_stale:
            self._settle()

    def _settle(self) -> None:
        self._is_stale = False
        if self._is_leaving and self.broker.is_drained and not self.results:
            self._finished.set()
        number = self.uplink.session.number
        if not number:
            return
        now = time.monotonic()
        ahead = self.broker.places_ahead(now)
        full = self.broker.is_draining or self.results.is_full
        free, lent = (0, 0) if full else self.broker.granted(now)
        idle = {} if full else self.broker.pool.counts()
        eager, self._ended = self._ended, False
        credit = self.credits.next(
            number, free, idle, ahead, WINDOW_STEP, lent=lent, eager=eager
        )
        self._say_results(credit)
        if not self.credits.is_behind:
            self._not_late()
        elif self._late is None:
            self._late = self._loop.call_later(LATE_S, self._settle_late)
        if self._long_head is None and (ahead or self.broker.watches(now)):
            # Places behind a head that runs on are taken back, and what was put there too.
            self._long_head = self._loop.call_later(LONG_HEAD_S, self._look_at_heads)

    def _say_results(self, credit: m.Credit | None) -> None:
        """Say the ends that may be said, and a CREDIT: with the last of them if it is new."""
        parts = list(self.results.take())
        if credit is not None and parts and parts[-1][0].takes_credit:
            last, payload = parts.pop()
            parts.append((msgspec.structs.replace(last, credit=credit), payload))
            credit = None
        for message, payload in parts:
            self.uplink.say(message, payload)
        if credit is not None:
            self.uplink.say(credit)

    def _not_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _settle_late(self) -> None:
        self._late = None
        self._ended = True
        self._settle()

    def _look_at_heads(self) -> None:
        self._long_head = None
        self._do(self.broker.recall(time.monotonic()))
