"""The api as a whole: opens what it needs in order, performs what was decided, closes it.

``perform`` is where every decision becomes I/O. One loop, one thread: an event is decided and
performed before the next one is looked at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import zmq

from api import past
from api.actions import Action, Emptied, Ended, Hint, Read, Send, Settled, Write
from api.assembly import Assembly
from api.backlog import Backlog
from api.callnums import Numbers
from api.catalogue import Catalogue
from api.chooser import Chooser
from api.courier import Courier
from api.dispatch import Dispatch, Output
from api.drain import Drain
from api.finished import Finished
from api.fleet import lacking
from api.hub import Hub
from api.live import Live
from api.meter import Meter
from api.outbox import Outbox
from api.packages import Packages
from api.policy import needs_of
from api.preparing import Preparing
from api.recorder import Recorder
from api.rereader import Rereader
from api.restraint import Restraint
from api.roster import Roster, Session
from api.settings import Settings
from api.store import Store, boot_time
from api.waiters import Waiters
from wire.about import about
from wire.codec import Message
from wire.errors import StaleEpoch, StoreUnavailable
from wire.liveness import HEARTBEAT_S, LOST_S
from wire.messages import Result
from wire.models import CallRecord, Function, Model, Spec, Status
from wire.process import spawn
from wire.records import (
    ApiOpened,
    CallCounts,
    CallsCounted,
    CatalogueRead,
    Changed,
    OpenApi,
    ReadCatalogue,
    RegisterFunction,
)

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
FLUSH_S: Final = 5.0
#: Between two questions of an api that the DB node gives no epoch.
AGAIN_S: Final = 2.0
#: Sessions are numbered from here times the epoch: no two lives share a number.
SESSIONS_PER_EPOCH: Final = 1 << 24


class Service:
    """Everything of one life of the api but its HTTP side."""

    def __init__(
        self,
        settings: Settings,
        context: zmq.Context[zmq.Socket[bytes]],
        store: Store,
        catalogue: Catalogue,
        epoch: int,
    ) -> None:
        limits = settings.limits
        self.settings = settings
        self.store = store
        self.catalogue = catalogue
        self.epoch = epoch
        self.counts: dict[str, int] = {}
        self._changing = asyncio.Lock()
        self.numbers = Numbers(store, api=settings.name, epoch=epoch)
        self.waiters = Waiters()
        self.meter = Meter()
        self.drain = Drain()
        self.finished = Finished()
        self.packages = Packages(settings.data / "packages", limits.package, catalogue.names)
        self.roster = Roster(token=settings.token, first=epoch * SESSIONS_PER_EPOCH + 1)
        self.backlog = Backlog(max_calls=limits.queue, max_bytes=limits.queue_bytes)
        self.dispatch = Dispatch(
            self.roster,
            self.backlog,
            api=settings.name,
            epoch=epoch,
            chooser=Chooser(settings.policy),
        )
        self.recorder = Recorder(
            store,
            Outbox(max_records=limits.outbox, max_bytes=limits.outbox_bytes),
            api=settings.name,
            epoch=epoch,
            on_durable=self._on_durable,
        )
        self.restraint = Restraint(self.recorder.outbox, self.waiters.ended)
        self.rereader = Rereader(store, self._on_params)
        self.courier = Courier(self.packages.folder, self._params, self._send_counted)
        self.preparing = Preparing(self.roster, self._send)
        self.hub = self._open_hub(context)
        self._past = past.Past()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers_seen_at: float | None = None
        #: Why this life has to end, once it has.
        self.fenced: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Service {self.settings.name} epoch {self.epoch}, {self.dispatch!r}>"

    @property
    def has_workers(self) -> bool:
        """Return whether a worker is here, or was within the liveness limit."""
        if self.roster.sessions:
            return True
        seen = self._workers_seen_at
        return seen is not None and boot_time() - seen < LOST_S

    def check_nodes(self, spec: Spec) -> None:
        """Refuse a call that no node there is can run.

        Raises:
            NoWorker: none has the labels, or the containers.
        """
        needs = needs_of(spec.function, spec.runtime.contract)
        since_ms = time.time_ns() // 1_000_000 - round(LOST_S * 1000)
        if needs is not None and (error := lacking(self.roster, needs, since_ms)) is not None:
            raise error

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what was decided."""
        for action in actions:
            match action:
                case Send(session, message, payload):
                    self.hub.send(session, message, payload)
                case Write(live, urgent):
                    self.recorder.put(live, urgent=urgent)
                case Ended(live):
                    _log_end(live)
                    self.restraint.ended(live.num)
                case Settled(live):
                    self.finished.put(live)
                case _:
                    self._perform_rare(action)

    def _perform_rare(self, action: Emptied | Hint | Read) -> None:
        match action:
            case Emptied(session):
                self.waiters.emptied(session.number)
            case Hint(message):
                self.hub.publish(message)
            case Read(num):
                self.rereader.read(num)

    def start(self, lives: list[Live]) -> None:
        """Go on with what an earlier life left unfinished, and begin to beat."""
        for live in lives:
            self.dispatch.recover(live)
        if lives:
            log.info("%d calls of an earlier life are not finished", len(lives))
        self._past.expect(lives, boot_time())
        self._tasks = [
            spawn(self._fenced(self.recorder.run()), "recorder"),
            spawn(self._tick(), "tick"),
            spawn(self._beat(), "heartbeat"),
            spawn(self._fenced(self.numbers.run()), "call numbers"),
        ]

    async def stop(self) -> None:
        """Store what is to be stored, give back what was leased, close every socket."""
        self.restraint.close()
        self.waiters.close()
        flushed = self.fenced.done() or await self.recorder.flushed(FLUSH_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not flushed:
            log.warning("stopped with records that the DB node did not take: %r", self.recorder)
        elif not self.fenced.done():
            await self.numbers.give_back()
        self.recorder.close()
        self.rereader.close()
        self.courier.close()
        self.hub.close()

    async def change(self, request: Model) -> Changed:
        """Change the catalogue: durable first, then here, then told to the workers."""
        changed = await self.store.ask("catalogue", request, Changed)
        if changed.item.seq > self.catalogue.seq:
            published = self.catalogue.apply(changed.item)
            if published is None:
                # Others changed it too: what came between has to be read.
                await self._catch_up()
            else:
                self.hub.publish(published)
        if changed.item.deleted:
            self.dispatch.tally.fold(set(self.catalogue.functions()))
        return changed

    async def change_function(self, composed: Callable[[], Function]) -> Changed:
        """Register what is composed, of the newest revision: one change after another."""
        async with self._changing:
            return await self.change(RegisterFunction(function=composed()))

    def cancel_all(self, project: str, function: str) -> None:
        """Cancel every call of a function that has not ended."""
        for live in list(self.dispatch.calls.values()):
            of = live.spec.function
            if (of.project, of.function_name) == (project, function):
                self.perform(self.dispatch.cancel(live.num, boot_time()))

    async def _catch_up(self) -> None:
        request = ReadCatalogue(epoch=self.catalogue.epoch, after=self.catalogue.seq)
        read = await self.store.ask("catalogue", request, CatalogueRead)
        self.catalogue.load(read.epoch, read.after, read.seq, read.items)

    def _open_hub(self, context: zmq.Context[zmq.Socket[bytes]]) -> Hub:
        settings, limits = self.settings, self.settings.limits
        return Hub(
            context=context,
            workers_bind=settings.workers_bind,
            pub_bind=settings.pub_bind,
            roster=self.roster,
            dispatch=self.dispatch,
            catalogue=self.catalogue,
            courier=self.courier,
            preparing=self.preparing,
            # What may come beside a result: the params of a repeated one, and logs.
            assembly=Assembly(limits.result + limits.params + (1 << 20)),
            max_result=limits.result,
            perform=self.perform,
            adopt=self._adopt,
        )

    def _params(self, num: int, attempt: int) -> bytes | None:
        live = self.dispatch.calls.get(num)
        if live is None or live.attempt != attempt or live.away is not None:
            return None
        return live.params

    def _send(self, session: Session, message: Message) -> None:
        self.hub.send(session, message)

    def _send_counted(self, session: Session, message: Message, payload: bytes) -> None:
        session.sent_bytes += len(payload)
        self.hub.send(session, message, payload)

    def _on_durable(self, num: int, rev: int) -> None:
        self.perform(self.dispatch.durable(num, rev, boot_time()))
        self.waiters.stored(num, rev)
        self.restraint.stored()

    def _on_params(self, num: int, params: bytes | None) -> None:
        self.perform(self.dispatch.came(num, params, boot_time()))

    def _adopt(self, session: Session, result: Result, output: Output, params: bytes) -> None:
        work = self._adopted(session, result, output, params)
        told = about(call=result.call, attempt=result.attempt)
        self._tasks.append(spawn(work, f"adopt call {result.call}", told))
        self._tasks[:] = [task for task in self._tasks if not task.done()]

    async def _adopted(
        self, session: Session, result: Result, output: Output, params: bytes
    ) -> None:
        """Take a result that nobody here knows the call of; the store may, or it may not."""
        kept = await past.stored(self.store, result.call)
        if kept is None or not kept.call.status.is_terminal:
            self._revive(past.repeated(result.record, params), kept)
        self.perform(self.dispatch.result(session, result, output, boot_time()))

    def _revive(self, repeated: CallRecord, kept: CallRecord | None) -> None:
        live = past.again(repeated, self.catalogue)
        # What the worker repeats was never acknowledged by the store.
        live.durable_rev = kept.rev if kept is not None else 0
        if live.num in self.dispatch.calls:
            return
        if kept is not None:
            live.rev = max(kept.rev, repeated.rev)
        log.info("taken over from its worker", extra=live.about)
        self.dispatch.recover(live)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = boot_time()
            if self.roster.sessions:
                self._workers_seen_at = now
            self.perform(self.dispatch.tick(now))
            if self.drain.is_due(now):
                self.drain.saw(sum(self.dispatch.tally.stages["total"].counts), now)
            back = {session.hello.node_id for session in self.roster.sessions.values()}
            if self._past.is_due(back, now):
                self.perform(self.dispatch.judge(self.settings.unfinished, now))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.hub.beat()

    async def _fenced(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work that ends only when another life of this api has taken over."""
        try:
            await work
        except StaleEpoch as error:
            if not self.fenced.done():
                self.fenced.set_exception(error)


def _log_end(live: Live) -> None:
    """Most calls end DONE, and a line costs more than all else that is counted of them."""
    if live.status is not Status.DONE:
        why = f"{live.reason.code}: {live.reason.message[:200]}" if live.reason else ""
        log.info("ended %s: %s", live.status, why, extra=live.about)
    elif log.isEnabledFor(logging.DEBUG):
        log.debug("ended DONE", extra=live.about)


async def _epoch(store: Store, name: str) -> int:
    """Return the epoch of this life, as soon as there is a DB node that gives one."""
    said = ""
    while True:
        try:
            return (await store.ask("catalogue", OpenApi(api=name), ApiOpened, None)).epoch
        except StoreUnavailable as error:
            if error.message != said:
                log.error("waiting for another answer than: %s (%s)", error.message, error.hint)
            said = error.message
        await asyncio.sleep(AGAIN_S)


async def open_service(
    settings: Settings, context: zmq.Context[zmq.Socket[bytes]], store: Store
) -> Service:
    """Open this life of the api at the DB node, and all that needs its epoch."""
    epoch = await _epoch(store, settings.name)
    read = await store.ask("catalogue", ReadCatalogue(), CatalogueRead, None)
    catalogue = Catalogue()
    catalogue.load(read.epoch, read.after, read.seq, read.items)
    lives = await past.unfinished(store, catalogue, settings.name, settings.limits.queue_bytes)
    counted = await store.ask("reads", CallCounts(), CallsCounted, None)
    # Its sockets open when all calls are known, and nothing is read from them before these are
    # its own: a node that came back sooner would be taken for one that knows nothing of them.
    service = Service(settings, context, store, catalogue, epoch)
    service.counts = counted.counts
    service.start(lives)
    return service
