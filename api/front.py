"""What HTTP may do with calls: accept, wait, read, list, cancel.

A synchronous call goes to a worker at once and its record follows; an asynchronous one is
answered only when its record is durable. A promise (202) is always durable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import msgspec

from api import fates
from api.bodies import InvokeFunction
from api.keyed import Key, Keyed
from api.listing import Page, merge
from api.live import Live
from api.service import Service
from api.store import PATIENCE_S, boot_time
from wire import images
from wire.errors import NoWorker, QueueFull, StoreUnavailable, TooLarge
from wire.models import Call, Logs, Spec
from wire.records import CallGot, CallsListed, GetCall, ListCalls
from wire.traces import NO_TRACE, Trace

#: What a promise may take: the decision to give up comes from dispatch, a little earlier.
DURABLE_S: Final = PATIENCE_S + 1.0


#: Calls that are looked at together where a page came out empty.
FURTHER: Final = 200


class Front:
    """The calls of one service, as clients see them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keyed = Keyed(service.store, self.living)

    def __repr__(self) -> str:
        return f"<Front of {self._service!r}>"

    async def submit(
        self,
        body: InvokeFunction,
        trace: Trace = NO_TRACE,
        key: Key | None = None,
        *,
        waits: bool = False,
    ) -> Call:
        """Accept a call and return its record as accepted, once that is durable."""
        live = await self._accept(body, trace, key, sync=False, waits=waits)
        accepted = live.call()
        stored = await self._service.waiters.durable(live, 1, DURABLE_S)
        # What was given up meanwhile is stored too, once the store takes it: as cancelled.
        if not stored or live.reason is fates.NOT_STORED:
            raise StoreUnavailable(
                f"call {live.num} could not be stored, so it was not accepted",
                hint="is skep-dbnode running, and is its disk well? Try again in a moment",
            )
        return accepted

    async def asked(self, body: InvokeFunction, wait_s: float, trace: Trace) -> Call:
        """Accept a call and return its record: as accepted, or of its end in ``wait_s``."""
        if not wait_s:
            return await self.submit(body, trace)
        return await self.invoke(body, wait_s, trace)

    async def once(
        self, body: InvokeFunction, key: Key, wait_s: float, trace: Trace = NO_TRACE
    ) -> tuple[Call, bool]:
        """Accept a call unless it was with this key; return it, and whether it was.

        It is durable before it may start, also if its end is waited for.
        """
        fresh: list[Call] = []

        async def accept() -> int:
            fresh.append(await self.submit(body, trace, key, waits=wait_s > 0))
            return fresh[0].call_num

        accepted = await self._keyed.once(key, accept)
        if fresh and not wait_s:
            return fresh[0], False
        return await self.call(accepted.num, wait_s), accepted.replayed

    async def invoke(
        self, body: InvokeFunction, wait_s: float, trace: Trace = NO_TRACE
    ) -> Call:
        """Accept a call, wait for its end at most ``wait_s``, and return its record."""
        live = await self._accept(body, trace, None, sync=True, waits=True)
        if await self.end(live, wait_s):
            return await self.told(live)
        return await self.promised(live)

    async def told(self, live: Live) -> Call:
        """Return the record of a call that is in memory, but for its params perhaps."""
        if live.away is None:
            return live.call()
        return live.call((await self._stored(live.num)).record.call.params)

    def begin(self, body: InvokeFunction, trace: Trace) -> Live | None:
        """Accept a synchronous call without ado; None if its number has to be waited for."""
        spec = self._check(body, waits=True, sync=True)
        num = self._service.numbers.next()
        return None if num is None else self._take(num, spec, body, trace, None, sync=True)

    def watch(self, live: Live, wait_s: float, done: Callable[[], None]) -> None:
        """Have ``done`` called when a call that was begun ended, or after ``wait_s``."""
        self._service.waiters.watch(live, wait_s, done)

    async def promised(self, live: Live) -> Call:
        """Return the record of a call that did not end in time, once that is durable."""
        service = self._service
        service.perform(service.dispatch.promise(live))
        if not await service.waiters.durable(live, live.rev, DURABLE_S):
            raise StoreUnavailable(
                f"call {live.num} goes on, but its record could not be stored yet",
                hint=f"look again at /call/{live.num} in a moment",
            )
        return await self.told(live)

    async def end(self, live: Live, wait_s: float) -> bool:
        """Wait for a call's end; return whether it came in time."""
        waiters, limit = self._service.waiters, self._service.settings.limits.waiting
        if len(waiters) >= limit and not live.status.is_terminal:
            raise QueueFull(
                f"{limit} clients wait for calls already",
                hint="ask without wait, and look at /call/N later",
                retry_after_s=self._service.drain.retry_after_s(limit),
            )
        return await waiters.end(live, wait_s)

    def living(self, num: int) -> Live | None:
        """Return a call that is in memory."""
        return self._service.dispatch.calls.get(num) or self._service.finished.get(num)

    async def call(self, num: int, wait_s: float) -> Call:
        """Return the record of a call, waiting for its end first.

        Raises:
            UnknownCall: there is none of that number.
        """
        live = self.living(num)
        if live is None:
            return (await self._stored(num)).record.call
        if wait_s:
            await self.end(live, wait_s)
        return await self.told(live)

    async def logs(self, num: int) -> Logs:
        """Return what a call printed; nothing while it runs."""
        live = self.living(num)
        if live is not None and live.logs is not None:
            return live.logs
        if live is not None and not live.status.is_terminal:
            return Logs()
        return (await self._stored(num)).record.logs or Logs()

    async def cancel(self, num: int) -> Call:
        """Cancel a call and return its record: terminal once nothing of it runs.

        Raises:
            UnknownCall: there is none of that number.
            StoreUnavailable: it is cancelled, but that is not stored yet.
        """
        service = self._service
        live = self.living(num)
        if live is None:
            return (await self._stored(num)).record.call
        service.perform(service.dispatch.cancel(num, boot_time()))
        if live.status.is_terminal and not await service.waiters.durable(
            live, live.rev, DURABLE_S
        ):
            raise StoreUnavailable(
                f"call {num} ended, but that could not be stored yet",
                hint="is skep-dbnode running? Ask again in a moment",
            )
        return await self.told(live)

    async def calls(self, query: ListCalls) -> Page[Call]:
        """Return one page of all calls."""
        asked = query
        while True:
            stored = await self._service.store.ask("reads", asked, CallsListed)
            # Of all that live only those on this page are made into what is shown.
            page = merge(query, stored, self._service.dispatch.calls.values())
            if page.calls or page.next is None:
                break
            # All of it has gone on since it was stored: what is asked for lies further on.
            query = msgspec.structs.replace(query, after=page.next)
            asked = msgspec.structs.replace(query, limit=max(query.limit, FURTHER))
        return Page(tuple([await self._shown(each) for each in page.calls]), page.next)

    async def _shown(self, each: Call | Live) -> Call:
        return await self.told(each) if isinstance(each, Live) else each

    async def _stored(self, num: int) -> CallGot:
        return await self._service.store.ask("reads", GetCall(call_num=num), CallGot)

    async def _accept(
        self, body: InvokeFunction, trace: Trace, key: Key | None, *, sync: bool, waits: bool
    ) -> Live:
        spec = self._check(body, waits=waits, sync=sync)
        num = self._service.numbers.next()
        if num is None:
            num = await self._service.numbers.take(PATIENCE_S)
            # Once more: it may have been deleted meanwhile, and others may have taken the
            # room. What is refused later has been accepted, and would run all the same.
            spec = self._check(body, waits=waits, sync=sync)
        return self._take(num, spec, body, trace, key, sync=sync)

    def _check(self, body: InvokeFunction, *, waits: bool, sync: bool) -> Spec:
        """Return what is to be run, if it can be accepted now."""
        service = self._service
        spec = service.catalogue.spec(body.func_name, body.revision)
        if spec.runtime.contract == "image":
            # What no program can be given is refused here, not in a record.
            images.arguments(bytes(body.params))
        self._check_room(memoryview(body.params).nbytes, waits=waits, sync=sync)
        service.check_nodes(spec)
        return spec

    def _take(
        self,
        num: int,
        spec: Spec,
        body: InvokeFunction,
        trace: Trace,
        key: Key | None,
        *,
        sync: bool,
    ) -> Live:
        service, function, now = self._service, spec.function, boot_time()
        live = Live(
            num=num,
            uuid=_uuid(),
            spec=spec,
            params=bytes(body.params),
            timeout_ms=round((body.timeout or function.timeout) * 1000),
            max_wait_ms=round((body.max_wait or function.max_wait) * 1000),
            sync=sync,
            accepted=now,
            accepted_ms=wall_clock_ms(),
            trace=trace,
            idempotency_key=key.text if key else None,
            idempotency_digest=key.digest if key else None,
        )
        self._count(spec)
        service.perform(service.dispatch.accept(live, now))
        return live

    def _count(self, spec: Spec) -> None:
        name = f"{spec.function.project}/{spec.function.function_name}"
        self._service.counts[name] = self._service.counts.get(name, 0) + 1

    def _check_room(self, size: int, *, waits: bool, sync: bool) -> None:
        service, limits = self._service, self._service.settings.limits
        if size > limits.params:
            raise TooLarge(
                f"the params are {size} bytes, {limits.params} may be",
                hint="put large data where the function can fetch it",
            )
        if not service.has_workers:
            raise NoWorker(
                "no worker is connected",
                hint="start one: skep-worker --name node1 --api tcp://HOST:3001",
            )
        if service.recorder.outbox.is_full:
            raise StoreUnavailable(
                "too many records wait for the DB node", hint="is skep-dbnode running?"
            )
        if not service.backlog.has_room(size, stays=sync) or (
            waits and len(service.waiters) >= limits.waiting
        ):
            raise QueueFull(
                f"{len(service.backlog)} calls wait already",
                hint="try again later (Retry-After), or add workers or slots",
                retry_after_s=service.drain.retry_after_s(len(service.backlog)),
            )


def _uuid() -> str:
    """Return a random UUID (version 4), for a third of what it costs to make it an object."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def wall_clock_ms() -> int:
    """Return the time of day in milliseconds since 1970; only records hold it."""
    return time.time_ns() // 1_000_000
