"""What takes time for a sandbox or an attempt: finding its code, fetching its params.

An errand belongs to whom it is run for, and ends when that goes; what comes of it is told to
the broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

from wire import baked
from wire.about import about
from wire.models import Fault, Reason, Spec
from wire.process import spawn
from worker import actions as act
from worker.broker import Broker
from worker.bundles import Bundles
from worker.failures import NoBundle
from worker.fetcher import Fetcher, NotFetched
from worker.lookup import Lookup, UnknownRevision
from worker.pulls import Pulls

MAX_PARAMS_BYTES: Final = 64 << 20
#: What a miniworker says of a bundle that another image built than its sandbox has.
STALE_BUNDLE: Final = "stale_bundle"
#: The same of an image that was another when it was looked for.
STALE_IMAGE: Final = "stale_image"
#: Stands where a bundle would: the code of a function that is an image is in the image.
NO_BUNDLE: Final = "-"


class Errands:
    """All errands under way, by the sandbox or attempt that each is for."""

    def __init__(
        self,
        broker: Broker,
        do: Callable[[Iterable[act.Action]], None],
        lookup: Lookup,
        fetcher: Fetcher,
        bundles: Bundles,
        pulls: Pulls,
    ) -> None:
        self._broker = broker
        self._do = do
        self._lookup = lookup
        self._fetcher = fetcher
        self._bundles = bundles
        self._pulls = pulls
        self._tasks: dict[object, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Errands: {len(self._tasks)} under way>"

    def order(self, order: act.ForErrands) -> None:
        """Begin or end an errand."""
        match order:
            case act.WantBundle():
                self._run(order.sandbox, self._get_bundle(order.sandbox, order.key))
            case act.DropBundle():
                self._end(order.sandbox)
                self._bundles.release(order.sandbox)
            case act.FetchParams():
                told = about(call=order.id[0], attempt=order.id[1])
                self._run(order.id, self._get_params(order.id), told)
            case act.ForgetParams():
                self._end(order.id)

    def broken(self, name: str, reason: Reason) -> None:
        """Have a bundle built, or an image looked for, that its sandbox could not use."""
        box = self._broker.pool.sandboxes.get(name)
        if box is not None and reason.code == STALE_BUNDLE:
            self._bundles.outdated(Path(box.bundle))
        elif box is not None and reason.code in (STALE_IMAGE, "image_unavailable"):
            self._forget_images(box.spec)

    def _forget_images(self, spec: Spec | None) -> None:
        for image in (spec.runtime.image, spec.function.baked_image) if spec else ():
            self._pulls.forget(image or "")

    async def close(self) -> None:
        """End them all."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bundles.close()
        await self._pulls.close()

    def _run(
        self,
        of: object,
        work: Coroutine[None, None, None],
        told: dict[str, Any] | None = None,
    ) -> None:
        task = self._tasks[of] = spawn(work, f"errand for {of}", told)
        task.add_done_callback(lambda _: self._over(of, task))

    def _over(self, of: object, task: asyncio.Task[None]) -> None:
        if self._tasks.get(of) is task:
            del self._tasks[of]

    def _end(self, of: object) -> None:
        task = self._tasks.pop(of, None)
        if task is not None:
            task.cancel()

    async def _get_bundle(self, name: str, key: str) -> None:
        try:
            spec = await self._lookup.spec(key)
            bundle, steps = await self._bundle_of(name, spec)
        except UnknownRevision:
            message = f"the api knows no revision {key}"
            reason = Reason(code="no_sandbox", message=message)
            self._no_bundle(name, NoBundle(Fault.NODE, reason))
        except NoBundle as error:
            self._no_bundle(name, error)
        else:
            now = time.monotonic()
            self._do(self._broker.bundle(name, spec, bundle, now, steps))

    async def _bundle_of(self, name: str, spec: Spec) -> tuple[str, tuple[act.Step, ...]]:
        def show(text: str) -> None:
            self._do(self._broker.progress(name, text))

        if baked.is_wanted(spec):
            image = spec.function.baked_image or ""
            found = await self._pulls.baked(image, baked.digest(spec), show)
            if found is not None:
                return baked.BUNDLE, found
        pulled = await self._pulls.have(spec.runtime.image, show)
        if spec.function.image is not None:
            return NO_BUNDLE, pulled
        try:
            bundle = await self._bundles.acquire(name, spec)
        except NoBundle:
            # It may be the image that is gone: whoever comes next looks for it.
            self._forget_images(spec)
            raise
        return str(bundle), (*pulled, *self._bundles.steps(spec))

    def _no_bundle(self, name: str, error: NoBundle) -> None:
        now = time.monotonic()
        self._do(self._broker.no_bundle(name, error.fault, error.reason, error.log, now))

    async def _get_params(self, id_: act.Id) -> None:
        params = bytearray()
        key = f"{id_[0]}.{id_[1]}"
        try:
            await self._fetcher.fetch("params", key, params.extend, limit=MAX_PARAMS_BYTES)
        except NotFetched as error:
            self._do(self._broker.no_params(id_, error.reason, time.monotonic()))
        else:
            self._do(self._broker.params(id_, bytes(params), time.monotonic()))
