"""Images that this node's engine is to have: each looked for, and pulled, once for all.

A miniworker for each, for that alone. What is known to be there is not asked for again in
this life, until a sandbox cannot be made of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wire import images, jobs
from wire.codec import Message
from wire.jobs import PullPolicy
from wire.models import Fault, Reason
from worker.actions import Step
from worker.failures import NoBundle
from worker.flights import Flights
from worker.minis import Minis

log = logging.getLogger(__name__)

#: A pull that takes longer is given up, however it goes on.
LIMIT_S: Final = 1800.0
#: How often those who wait are told how far it is.
TELL_S: Final = 0.5

#: How often one is looked for again that is there, and not what its function needs.
LOOK_AGAIN_S: Final = 30.0

OnText = Callable[[str], None]


@dataclass(slots=True)
class Pull:
    """One image on its way, and where its end is awaited."""

    order: jobs.Pull
    pulled: asyncio.Future[jobs.Pulled]
    told_at: float = 0.0


class Pulls:
    """The images of this node, as far as anybody has asked for them."""

    def __init__(self, minis: Minis, driver: str, policy: PullPolicy) -> None:
        self._minis = minis
        self._policy = policy
        self._has_engine = driver == "docker"
        #: What was baked into each of those that are there.
        self._here: dict[str, str] = {}
        self._flights: Flights[str] = Flights()
        self._pulls: dict[str, Pull] = {}
        self._listeners: dict[str, list[OnText]] = {}
        self._begun = 0
        #: When one was looked for again that was not what its function needs.
        self._looked_at: dict[str, float] = {}
        #: How they ended.
        self.endings: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Pulls: {len(self._here)} images known, {len(self._pulls)} looked for>"

    async def have(self, image: str, on_text: OnText) -> tuple[Step, ...]:
        """Have an image here if a registry may be asked for it; return what that took.

        One without a registry in its name is taken as it is on the engine, if it is there.

        Raises:
            NoBundle: it cannot be had.
        """
        if not self._has_engine or self._policy == "never" or not images.registry_of(image):
            return ()
        return (await self._get(image, on_text))[1]

    async def baked(self, image: str, wanted: str, on_text: OnText) -> tuple[Step, ...] | None:
        """Have an image here into which this was baked; None if it is something else.

        Raises:
            NoBundle: it cannot be had.
        """
        if not self._has_engine:
            return None
        found, steps = await self._get(image, on_text)
        if found != wanted and self._may_look_again(image):
            # It may have been made anew by the same name, here or in its registry.
            self.forget(image)
            with contextlib.suppress(NoBundle):
                found, more = await self._get(image, on_text, again=True)
                steps += more
        if found == wanted:
            return steps
        log.info("the image %s is not what would be baked of its function now", image)
        return None

    def forget(self, image: str) -> None:
        """Look again for an image before it is used: it is gone, or another."""
        self._here.pop(image, None)

    def heard(self, name: str, message: Message) -> bool:
        """Take what a miniworker said; return whether it pulls."""
        if not name.startswith("p"):
            return False
        pull = self._pulls.get(name)
        match message:
            case jobs.Up() if pull:
                self._minis.tell(name, pull.order)
            case jobs.Pulling(percent=percent) if pull:
                self._tell(pull, percent)
            case jobs.Pulled() if pull and not pull.pulled.done():
                pull.pulled.set_result(message)
        return True

    def exited(self, name: str, why: str) -> bool:
        """Take the end of a miniworker; return whether it was one that pulls."""
        pull = self._pulls.get(name)
        if pull and not pull.pulled.done():
            pull.pulled.set_result(_failed(pull.order.image, why))
        return name.startswith("p")

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    def _may_look_again(self, image: str) -> bool:
        now = time.monotonic()
        if now - self._looked_at.get(image, -LOOK_AGAIN_S) < LOOK_AGAIN_S:
            return False
        self._looked_at[image] = now
        return True

    async def _get(
        self, image: str, on_text: OnText, *, again: bool = False
    ) -> tuple[str, tuple[Step, ...]]:
        if image in self._here:
            return self._here[image], ()
        begin = time.monotonic()
        listeners = self._listeners.setdefault(image, [])
        listeners.append(on_text)
        try:
            found = await self._flights.join(image, lambda: self._fly(image, again=again))
            return found, (Step("pull", begin, time.monotonic()),)
        finally:
            listeners.remove(on_text)
            if not listeners:
                self._listeners.pop(image, None)

    async def _fly(self, image: str, *, again: bool) -> str:
        how: PullPolicy = self._policy if images.registry_of(image) else "never"
        if again and how == "missing":
            how = "always"
        begun = time.monotonic()
        pulled = await self._run(jobs.Pull(image=image, how=how))
        took_s = time.monotonic() - begun
        if pulled.reason is not None:
            self.endings["failed"] += 1
            log.warning("no image after %.1f s: %s", took_s, pulled.reason.message)
            raise NoBundle(pulled.fault, pulled.reason)
        self.endings["done"] += 1
        log.info("the image %s is here, after %.1f s", image, took_s)
        self._here[image] = pulled.baked
        return pulled.baked

    async def _run(self, order: jobs.Pull) -> jobs.Pulled:
        self._begun += 1
        name = f"p{self._begun}"
        loop = asyncio.get_running_loop()
        pull = self._pulls[name] = Pull(order, loop.create_future())
        self._minis.spawn(name)
        pulled: jobs.Pulled | None = None
        try:
            pulled = await asyncio.wait_for(pull.pulled, LIMIT_S)
            return pulled
        except TimeoutError:
            return _failed(order.image, f"it took longer than {LIMIT_S:g} s")
        finally:
            del self._pulls[name]
            if pulled is not None:
                self._minis.tell(name, jobs.Stop())
            else:
                self._minis.kill(name)

    def _tell(self, pull: Pull, percent: int) -> None:
        now = time.monotonic()
        if now - pull.told_at < TELL_S:
            return
        pull.told_at = now
        image = pull.order.image
        for listener in tuple(self._listeners.get(image, ())):
            listener(f"pulling {image}: {percent} %")


def _failed(image: str, why: str) -> jobs.Pulled:
    reason = Reason(code="image_unavailable", message=f"{image!r} was not pulled: {why}")
    return jobs.Pulled(reason=reason, fault=Fault.NODE)
