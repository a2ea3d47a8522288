"""Dispatch against workers that are slow, lost and killed at any moment, by hypothesis.

Whatever the order: a call ends once, one that may not run twice begins once, no START lacks a
credit or its params, these take no more memory than they may, and when the world is fair again
every accepted call comes to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from api.actions import Action, Ended, Read, Send, Write
from api.backlog import SMALL_BYTES, Backlog
from api.dispatch import Dispatch, Output
from api.live import Live
from api.phase import Phase
from api.roster import Roster
from tests.api.model import ModelWorker, live, spec
from wire.messages import Credit, Ready, Recorded, Result, Returned, Start
from wire.models import Status

RUNNING = (Phase.PREPARED, Phase.PERMITTED, Phase.STARTED, Phase.SILENT)
WORKERS = st.integers(0, 1)
#: Memory for the params of two large calls.
MEMORY = 1000


def params(num: int, size: int) -> bytes:
    return b"%d" % num + b" " * size


class DispatchMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.roster = Roster()
        self.backlog = Backlog(max_calls=1000, max_bytes=MEMORY)
        self.dispatch = Dispatch(self.roster, self.backlog, api="api", epoch=1)
        #: The calls whose params are to be read from the store; that can only be.
        self.reads: list[int] = []
        self.sizes: dict[int, int] = {}
        self.workers = [ModelWorker("node1"), ModelWorker("node2", slots=1)]
        self.writes: list[tuple[int, int]] = []
        self.ended: Counter[int] = Counter()
        self.accepted: dict[int, Live] = {}
        for worker in self.workers:
            self.join(worker)

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.to_worker(action)
            elif isinstance(action, Read):
                assert self.accepted[action.num].is_stored
                self.reads.append(action.num)
            elif isinstance(action, Write):
                self.writes.append((action.live.num, action.live.rev))
            elif isinstance(action, Ended):
                self.ended[action.live.num] += 1

    def to_worker(self, action: Send) -> None:
        if isinstance(action.message, Start):
            num = action.message.call
            assert action.payload == params(num, self.sizes[num])
        for worker in self.workers:
            if worker.session == action.session.number:
                worker.inbox.append(action.message)

    def join(self, worker: ModelWorker) -> None:
        worker.inbox.clear()
        route = f"{worker.name}-{self.now}-{worker.session}".encode()
        session, actions = self.dispatch.hello(route, worker.hello(), ("e", 1), self.now)
        worker.join(session.number)
        self.perform(actions)

    def from_worker(self, worker: ModelWorker) -> None:
        message = worker.outbox.popleft()
        session = self.roster.sessions.get(worker.session)
        if session is None:
            return
        if isinstance(message, Credit):
            self.perform(self.dispatch.credit(session, message, self.now))
        elif isinstance(message, Ready):
            self.perform(self.dispatch.ready(session, message, self.now))
        elif isinstance(message, Returned):
            self.perform(self.dispatch.returned(session, message, self.now))
        elif isinstance(message, Result):
            self.perform(self.dispatch.result(session, message, Output(b"1"), self.now))

    @rule(
        sync=st.booleans(),
        repeat=st.booleans(),
        name=st.sampled_from(["dice", "coin", "few"]),
        size=st.sampled_from([0, 400, 900]),
    )
    def accept(self, sync: bool, repeat: bool, name: str, size: int) -> None:
        if not self.backlog.has_room(size + 5, stays=sync):
            return
        num = len(self.accepted) + 1
        self.sizes[num] = size
        at_once = 1 if name == "few" else None
        name += "-again" if repeat else ""
        retries = 2 if name == "coin-again" else 0
        of = spec(name, idempotent=repeat, at_once=at_once, retries=retries)
        call = live(num, sync=sync, now=self.now, of=of)
        call.params = params(num, size)
        self.accepted[num] = call
        self.perform(self.dispatch.accept(call, self.now))

    @rule(count=st.integers(1, 5))
    def store(self, count: int) -> None:
        for num, rev in self.writes[:count]:
            self.perform(self.dispatch.durable(num, rev, self.now))
        del self.writes[:count]

    @rule(count=st.integers(1, 5))
    def read(self, count: int) -> None:
        nums, self.reads = self.reads[:count], self.reads[count:]
        for num in nums:
            self.perform(self.dispatch.came(num, params(num, self.sizes[num]), self.now))

    @rule(which=WORKERS, count=st.integers(1, 5))
    def worker_reads(self, which: int, count: int) -> None:
        worker = self.workers[which]
        for _ in range(min(count, len(worker.inbox))):
            if isinstance(worker.inbox[0], Recorded):
                worker.recorded(worker.inbox[0].upto)
            worker.read()

    @rule(which=WORKERS, count=st.integers(1, 5))
    def api_reads(self, which: int, count: int) -> None:
        worker = self.workers[which]
        for _ in range(min(count, len(worker.outbox))):
            self.from_worker(worker)

    @rule(which=WORKERS)
    def sandbox_made(self, which: int) -> None:
        self.workers[which].made()

    @rule(which=WORKERS, how=st.sampled_from([Status.LOST, Status.DONE, Status.TIMEOUT]))
    def attempt_ends(self, which: int, how: Status) -> None:
        self.workers[which].end(how)

    @rule(which=WORKERS, kind=st.sampled_from(["lost", "rejoins", "killed"]))
    def trouble(self, which: int, kind: str) -> None:
        worker = self.workers[which]
        session = self.roster.sessions.get(worker.session)
        if kind == "killed":
            worker.die()
        if kind != "lost":
            self.join(worker)
        elif session is not None:
            self.perform(self.dispatch.lost(session, self.now))

    @rule(steps=st.integers(1, 3), ending=st.booleans())
    def goes_well(self, steps: int, ending: bool) -> None:
        for _ in range(steps):
            self.store(len(self.writes))
            self.read(len(self.reads))
            for which, worker in enumerate(self.workers):
                self.worker_reads(which, len(worker.inbox))
                worker.made()
                if ending:
                    worker.end()
                self.api_reads(which, len(worker.outbox))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.accepted:
            num = data.draw(st.sampled_from(sorted(self.accepted)))
            self.perform(self.dispatch.cancel(num, self.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.dispatch.tick(self.now))

    @invariant()
    def a_call_ends_once(self) -> None:
        assert all(count == 1 for count in self.ended.values())
        for num, call in self.accepted.items():
            assert (self.ended[num] == 1) == call.status.is_terminal, call

    @invariant()
    def what_may_not_run_twice_begins_once(self) -> None:
        begun = Counter(num for worker in self.workers for num, _ in worker.begun)
        for num, count in begun.items():
            assert count == 1 or self.accepted[num].may_repeat, self.accepted[num]

    @invariant()
    def the_stages_are_no_more_than_the_whole(self) -> None:
        for call in self.accepted.values():
            end = self.now if call.finished is None else call.finished
            assert sum(call.call().stages.values()) <= (end - call.accepted) * 1000 + 0.1, call

    @invariant()
    def no_more_run_than_may(self) -> None:
        running = Counter(
            call.spec.function.function_name
            for call in self.accepted.values()
            if call.phase in RUNNING and call.spec.function.max_concurrency is not None
        )
        assert all(count == 1 for count in running.values())

    @invariant()
    def what_waits_takes_no_more_memory_than_it_may(self) -> None:
        waiting = [c for c in self.accepted.values() if c.num in self._queued(c.key)]
        size = sum(len(call.params) for call in waiting)
        assert size == self.backlog.size
        # What the store does not have stays (as much is let in as there is room for), and
        # what is small, and the first of each key.
        stays = sum(
            len(call.params)
            for call in waiting
            if not call.is_stored
            or len(call.params) <= SMALL_BYTES
            or self.backlog.head(call.key) == call.num
        )
        assert size <= max(MEMORY, stays)
        assert all((call.away is None) == bool(call.params) for call in waiting)

    def _queued(self, key: str) -> set[int]:
        return {num for num in self.dispatch.calls if self.backlog.waits(key, num)}

    @invariant()
    def nothing_is_overdrawn(self) -> None:
        assert not any(worker.overdrawn for worker in self.workers)

    @invariant()
    def attempts_are_where_their_session_says(self) -> None:
        for session in self.roster.sessions.values():
            for num in session.attempts:
                assert self.dispatch.calls[num].session == session.number

    def teardown(self) -> None:
        """The world becomes fair: everybody comes back and does what is asked."""
        for worker in self.workers:
            self.join(worker)
        for _ in range(60 + 4 * len(self.accepted)):
            self.store(len(self.writes))
            self.read(len(self.reads))
            for which, worker in enumerate(self.workers):
                self.worker_reads(which, len(worker.inbox))
                worker.made()
                worker.end()
                self.api_reads(which, len(worker.outbox))
            self.time_passes(0.5)
            if all(call.phase is Phase.ENDED for call in self.accepted.values()):
                break
        self.store(len(self.writes))
        self.a_call_ends_once()
        self.what_may_not_run_twice_begins_once()
        assert [c for c in self.accepted.values() if c.phase is not Phase.ENDED] == []
        self.store(len(self.writes))
        assert not self.dispatch.calls
        assert not self.dispatch.adrift


TestDispatchMachine = DispatchMachine.TestCase
TestDispatchMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
