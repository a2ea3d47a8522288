"""A platform of three nodes in virtual time, and all that can go wrong with it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from api.actions import Action
from api.chooser import Chooser
from api.live import Live
from api.reunion import Policy
from api.roster import Session as ApiSession
from tests.api.model import spec
from tests.faults.simulated_line import Line
from tests.virtual.api import WALL_MS, Api
from tests.virtual.node import Node
from tests.virtual.script import Ending, Trouble
from tests.virtual.store import Store
from tests.virtual.timeline import Timeline
from wire import messages as m
from wire.codec import Message
from wire.models import POLICIES, Fault, Reason, Spec, Status
from worker.actions import Id
from worker.pool import PoolSettings
from worker.session import Order, Session

NODES: Final = 3
UPLINK_TICK_S: Final = 0.25
HEARTBEAT_S: Final = 1.0
_CRASHED: Final = Reason(code="raised", message="it raised")
_GONE: Final = Reason(code="sandbox_lost", message="its process died")
_NO_SPACE: Final = Reason(code="no_space", message="the disk is full")
_NO_ENTRY: Final = Reason(code="no_entry", message="there is no such function")
#: Functions: name, idempotent, retries, maxConcurrency, mean seconds of a call.
_FUNCTIONS: Final = (
    ("once", False, 0, None, 0.05),
    ("slow", False, 0, None, 3.0),
    ("fast", False, 0, None, 0.0004),
    ("again", True, 0, None, 0.2),
    ("fast-again", True, 0, None, 0.0004),
    ("retried", False, 2, None, 0.3),
    ("few", False, 0, 1, 0.1),
)


class Violation(AssertionError):
    """A promise that was broken."""


@dataclass(slots=True)
class Told:
    """What a client knows of a call, and what executions said of it."""

    spec: Spec
    sync: bool
    #: It was answered 202, or (synchronous) 200.
    accepted: bool = False
    ended: Status | None = None
    begun: int = 0
    #: The nodes' lives that executed it, and whether one of them ended since.
    boots: set[str] = field(default_factory=set)
    #: The life of the api that told its end.
    told_by: int = 0
    #: The revision whose storing makes it accepted; 1 for an asynchronous one.
    answered_at: int | None = None


class World:
    """Everything; one seed is one run."""

    def __init__(self, seed: int, node: type[Node] = Node) -> None:
        """``node`` may be one that breaks a rule, which has to be found out."""
        self.seed = seed
        self.node = node
        self.dice = Random(seed)
        self.timeline = Timeline()
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.calls: dict[int, Told] = {}
        self.dead_boots: set[str] = set()
        self.lines: dict[bytes, Line] = {}
        self.store = Store(self.timeline, self.dice)
        #: Trouble is made only while this holds.
        self.is_rough = True
        self._nums = itertools.count(1)
        self._routes = itertools.count(1)
        self._lives = itertools.count(1)
        self._unfinished: Policy = self.dice.choice(("requeue", "requeue", "fail"))
        self._policy = self.dice.choice(POLICIES)
        self._functions = [
            (spec(name, idempotent=idem, retries=retries, at_once=few), mean_s)
            for name, idem, retries, few, mean_s in _FUNCTIONS
        ]
        self.specs = {of.key: of for of, _ in self._functions}
        self._mean_s = {of.key: mean_s for of, mean_s in self._functions}
        self._api_back_at = 0.0
        self.api = self._new_api()
        self.uplinks = [Uplink(self, f"node{at}") for at in range(NODES)]

    def __repr__(self) -> str:
        return f"<World of seed {self.seed} at {self.timeline!r}, {len(self.calls)} calls>"

    # --- what clients do ---

    def call(self) -> None:
        """Make a call."""
        if self.timeline.now < self._api_back_at:
            return
        of, _ = self.dice.choice(self._functions)
        num, sync, now = next(self._nums), self.dice.random() < 0.5, self.timeline.now
        self.calls[num] = Told(of, sync, answered_at=None if sync else 1)
        live = Live(
            num=num,
            uuid=f"uuid-{num}",
            spec=of,
            params=b"{}",
            timeout_ms=5000,
            max_wait_ms=self.dice.choice((5_000, 120_000)),
            sync=sync,
            accepted=now,
            accepted_ms=WALL_MS + round(now * 1000),
        )
        self.api.host.run(lambda: self.api.accept(live))
        if self.dice.random() < 0.04:
            self._cancel_later(num)
        if sync and self.dice.random() < 0.2:
            self._promise_later(live)

    def _promise_later(self, live: Live) -> None:
        """The client of a synchronous call waits no longer: it gets a 202."""
        api = self.api

        def promise() -> None:
            told = self.calls[live.num]
            if told.ended is None and live.num in api.dispatch.calls:
                api.perform(api.dispatch.promise(live))
                told.sync, told.answered_at = False, live.rev
                self.counts["promises"] += 1

        api.host.after(self.dice.expovariate(1.0), promise)

    def _cancel_later(self, num: int) -> None:
        def cancel() -> None:
            api = self.api
            api.host.run(lambda: api.cancel(num))

        self.counts["cancels"] += 1
        self.timeline.after(self.dice.expovariate(2.0), cancel)

    def _accepted(self, num: int, rev: int) -> None:
        told = self.calls[num]
        if told.answered_at is not None and rev >= told.answered_at:
            told.accepted = True

    def _ended(self, api: Api, live: Live) -> None:
        told = self.calls[live.num]
        if told.ended is not None and told.told_by == api.epoch:
            raise Violation(f"call {live.num} ended twice: {told.ended}, then {live.status}")
        if live.status is Status.DONE and not told.begun:
            raise Violation(f"call {live.num} is DONE and never began")
        if live.status is Status.DONE and live.result != str(live.num):
            raise Violation(f"call {live.num} has the result {live.result!r}")
        told.ended, told.told_by = live.status, api.epoch
        told.accepted = told.accepted or told.sync
        self.counts[f"ended {live.status}"] += 1
        self.counts["attempts beyond the first"] += max(0, live.attempt - 1)

    # --- what functions do: a Script ---

    def spec(self, key: str) -> Spec:
        """Return the revision of a key."""
        return self.specs[key]

    def fork_s(self) -> float:
        """Return how long a fork takes."""
        return 0.01 * self.dice.random()

    def bundle(self, key: str) -> float | Trouble:  # noqa: ARG002
        """Return how long code takes to come; now and then it does not."""
        return self._trouble(0.01, "no bundle") or 0.02 * self.dice.random()

    def make(self, spec: Spec) -> float | Trouble:  # noqa: ARG002
        """Return how long a sandbox takes; now and then it cannot be made."""
        return self._trouble(0.02, "no sandbox") or 0.3 * self.dice.random()

    def _trouble(self, chance: float, what: str) -> Trouble | None:
        if not self.is_rough or self.dice.random() >= chance:
            return None
        self.faults[what] += 1
        if self.dice.random() < 0.1:
            return Trouble(Fault.FUNCTION, _NO_ENTRY)
        return Trouble(Fault.NODE, _NO_SPACE)

    def begin(self, id_: Id, key: str, boot: str) -> Ending:
        """An execution begins: it must be one that may."""
        num, told = id_[0], self.calls[id_[0]]
        told.begun += 1
        told.boots.add(boot)
        self.counts["executions"] += 1
        if told.begun > 1 and not told.spec.function.may_repeat:
            raise Violation(f"call {num} began {told.begun} times, the last on {boot}: {id_}")
        self._check_not_stale(num, id_)
        seconds = self.dice.expovariate(1 / self._mean_s[key])
        chance = self.dice.random() if self.is_rough else 1.0
        if chance < 0.01:
            return Ending(seconds, Status.FAILED, _CRASHED)
        if chance < 0.015:
            return Ending(seconds, Status.LOST, _GONE)
        return Ending(6.0 if chance < 0.02 else min(seconds, 4.9))

    def _check_not_stale(self, num: int, id_: Id) -> None:
        """A call that may not run twice begins before it has its end, and not after."""
        told, record = self.calls[num], self.store.find(num)
        ended = told.ended if told.told_by == self.api.epoch else None
        if record is not None and record.call.status.is_terminal:
            ended = record.call.status
        if ended in (Status.LOST, Status.TIMEOUT) and not told.spec.function.may_repeat:
            raise Violation(f"call {num} had ended {ended} when {id_} began")

    # --- what goes wrong ---

    def kill_api(self) -> None:
        """End the api; it is back in a while."""
        self.api.host.die()
        self._api_back_at = self.timeline.now + self.dice.uniform(0.2, 15.0)
        for line in list(self.lines.values()):
            self._cut(line)
            line.hold(self._api_back_at)
        self.timeline.at(self._api_back_at, self._revive_api)

    def _revive_api(self) -> None:
        if self.api.host.is_dead and self.timeline.now >= self._api_back_at:
            self.api = self._new_api()

    def _new_api(self) -> Api:
        api = Api(
            self.timeline,
            self.store,
            self.specs,
            self._to_line,
            chooser=Chooser(self._policy, self.dice),
            on_ended=lambda live: self._ended(api, live),
            on_durable=self._accepted,
            unfinished=self._unfinished,
        )
        api.start()
        return api

    def cut(self) -> None:
        """Break a connection."""
        if self.lines:
            self._cut(self.dice.choice(list(self.lines.values())))

    def hold(self) -> None:
        """Let a network stand still for a while."""
        if self.lines:
            until = self.timeline.now + self.dice.choice((0.5, 4.0, 9.0, 14.0, 30.0))
            self.dice.choice(list(self.lines.values())).hold(until)

    def _cut(self, line: Line) -> None:
        self.lines.pop(line.route, None)
        line.cut()
        self.lines[line.route] = line

    def kill_node(self) -> None:
        """End a worker, with its miniworkers."""
        self.dice.choice(self.uplinks).die(self.dice.uniform(0.1, 15.0))

    def kill_mini(self) -> None:
        """End a miniworker."""
        minis = [mini for up in self.uplinks for mini in up.node.minis.values()]
        if minis:
            self.dice.choice(minis).die("it was killed")

    def freeze_node(self) -> None:
        """Have a worker stand still; its miniworkers go on."""
        self.dice.choice(self.uplinks).node.host.freeze(self._standstill_s())

    def freeze_api(self) -> None:
        """Have the api stand still."""
        self.api.host.freeze(self._standstill_s())

    def kill_store(self) -> None:
        """End the DB node; it is back in a while."""
        self.store.die(self.dice.choice((0.1, 2.0, 8.0)))

    def drain(self) -> None:
        """Set a node aside, and give it work again after a while: each is said once."""
        name = self.dice.choice(self.uplinks).node.name

        def drain(api: Api, session: ApiSession) -> list[Action]:
            # Not before it was drained: what is said first has to arrive first.
            self.timeline.after(self.dice.uniform(0.1, 10.0), lambda: self._resume(name))
            return api.dispatch.nodes.drain(session)

        self._tend(name, drain)

    def _resume(self, name: str) -> None:
        self._tend(name, lambda api, session: api.dispatch.nodes.resume(session))
        api = self.api

        def again() -> None:
            # The word may have died with an api that did not live to say it once more.
            if api is not self.api:
                self._resume(name)

        self.timeline.after(20.0, again)

    def _tend(self, name: str, what: Callable[[Api, ApiSession], list[Action]]) -> None:
        """Do as an operator: while no such node is there, try again."""
        api = self.api

        def try_it() -> None:
            session = api.roster.named(name)
            if session is None:
                self.timeline.after(1.0, lambda: self._tend(name, what))
            else:
                api.perform(what(api, session))

        if api.host.is_dead or api.host.is_frozen:
            self.timeline.after(1.0, lambda: self._tend(name, what))
        else:
            try_it()

    def _standstill_s(self) -> float:
        return self.dice.choice((0.3, 2.5, 5.0, 9.5, 11.0, 13.0, 25.0))

    # --- lines ---

    def connect(self, uplink: Uplink) -> Line:
        """Return a new line of a worker."""
        line = Line(
            self.timeline,
            self.dice,
            self.counts,
            lambda: b"%d" % next(self._routes),
            self._to_api,
            uplink.arrives,
        )
        self.lines[line.route] = line
        if self.timeline.now < self._api_back_at:
            line.hold(self._api_back_at)
        return line

    def closed(self, line: Line) -> None:
        """A line is no more."""
        self.lines.pop(line.route, None)

    def life(self) -> int:
        """Return the number of a new life of a node."""
        return next(self._lives)

    def _to_api(self, route: bytes, message: Message, payload: bytes) -> None:
        api = self.api
        if isinstance(message, m.Result) and message.record:
            self.counts["results repeated"] += 1
        api.host.run(lambda: api.receive(route, message, payload))

    def _to_line(self, route: bytes, message: Message, payload: bytes) -> None:
        if isinstance(message, m.Who):
            self.counts["strangers asked"] += 1
        line = self.lines.get(route)
        if line is not None:
            line.down(message, payload)


class Uplink:
    """The line of one node to the api: what ``worker.uplink`` does, and the node's lives."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.slots = world.dice.choice((1, 2, 4))
        self._line: Line | None = None
        self._begin()

    def __repr__(self) -> str:
        return f"<Uplink of {self.node!r}>"

    def _begin(self) -> None:
        world = self._world
        pool = PoolSettings(max_warm=self.slots + 2, idle_s=20.0, start_s=10.0)
        self.node = world.node(
            world.timeline,
            self._name,
            world,
            self._say,
            life=world.life(),
            slots=self.slots,
            pool=pool,
        )
        self.session = Session()
        self.node.start()
        self.node.host.every(UPLINK_TICK_S, self._tick)
        self.node.host.every(HEARTBEAT_S, self.node.beat)
        self._tick()

    def die(self, back_s: float) -> None:
        """End, and begin another life in a while."""
        node = self.node
        if node.host.is_dead:
            return
        self._world.dead_boots.add(node.boot)
        node.die()
        self._close()
        self._world.timeline.after(back_s, self._begin)

    def arrives(self, line: Line, message: Message, payload: bytes) -> None:
        """A message of the api comes by a line."""
        self.node.host.run(lambda: self._read(line, message, payload))

    def _say(self, message: Message, payload: bytes) -> None:
        if self._line is not None:
            self._line.up(message, payload)

    def _tick(self) -> None:
        self._obey(self.session.tick(self._world.timeline.now))

    def _obey(self, orders: list[Order]) -> None:
        for order in orders:
            if order is Order.HELLO:
                self._close()
                self._line = self._world.connect(self)
                self._say(self.node.hello(), b"")
            elif order in (Order.LOST, Order.SLEPT):
                self._close()
                self._world.counts["sessions lost"] += 1
                self.node.lost(slept=order is Order.SLEPT)

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._world.closed(self._line)
            self._line = None

    def _read(self, line: Line, message: Message, payload: bytes) -> None:
        now = self._world.timeline.now
        if self.session.is_late(now):
            self._obey(self.session.tick(now))
        if line is not self._line:
            return
        if isinstance(message, m.Welcome):
            if Order.OPENED in self.session.answer(message, now):
                self._world.counts["sessions"] += 1
                self.node.opened(message.session)
        elif isinstance(message, m.Who | m.Refuse):
            self._obey(self.session.answer(message, now))
        elif self.session.heard(getattr(message, "session", 0), now):
            self.node.heard(message, payload)
