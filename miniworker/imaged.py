"""The contract ``image``: a call is one fresh container of the function's image.

There is no agent. To the loop this stands where an agent's connections stand: what it is
handed starts a container, and what is read from it says how a call ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from miniworker import agent, asking, complaints, image_options
from miniworker.cgroups import Kills
from miniworker.container import Settings
from miniworker.engine import Engine, EngineAway, EngineRefused
from miniworker.running import Running
from miniworker.sandbox import NoSandbox, Plan
from wire import images
from wire.errors import BadRequest
from wire.models import Fault

log = logging.getLogger(__name__)

#: What making and removing a container may take beyond its call, before anybody may sweep.
EXPIRES_AFTER_S: Final = 180
#: How long is waited for the end of a container that closed what it prints to, and how often.
END_S: Final = 0.25
LOOK_S: Final = 0.5
#: Noted on the node once its engine has said that it cannot limit a layer.
NO_QUOTA_FILE: Final = "no-quota"


class ImageCalls:
    """The containers of one miniworker, one after another."""

    has_more_to_send = False
    load_ms = 0.0

    def __init__(self, plan: Plan, settings: Mapping[str, str], limits: agent.Limits) -> None:
        self._plan = plan
        self._settings = msgspec.convert(dict(settings), Settings)
        self._limits = limits
        self._image = plan.spec.runtime.image
        self._engine = Engine(self._settings.engine, self._settings.version)
        #: Always the same descriptor for the loop, whichever container there is.
        self._epoll = select.epoll()
        self._running: Running | None = None
        self._was_oom = False
        self.is_left = False
        #: When it wants to look again at a container that prints nothing any more.
        self.wake_at: float | None = None

    def __repr__(self) -> str:
        return f"<ImageCalls of {self._image!r}, {self._running!r}>"

    @property
    def channels(self) -> tuple[ImageCalls, ...]:
        """Return what is to be polled."""
        return (self,)

    def open(self) -> None:
        """Make sure that there is an image to make containers of.

        Raises:
            NoSandbox: the engine has none, or not for this machine, or does not answer.
        """
        try:
            asking.find_image(self._engine, self._image, self._settings.architecture)
        except EngineRefused as error:
            raise complaints.refused(error.message, self._image, "") from error
        except EngineAway as error:
            raise NoSandbox(error.message, hint=error.hint) from error

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def flush(self) -> None:
        """Have nothing to send: params go when the container reads."""

    def begun(self) -> int | None:
        """Return None: nobody but the program knows what it has done."""
        return None

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed in the container of the last call."""
        return self._was_oom

    # --- one call ----------------------------------------------------------------------

    def hand(self, call: agent.Call, params: bytes) -> None:
        """Start the container of a call; when this returns it runs.

        Raises:
            NoSandbox: it was not started, and nothing is left of it.
            EOFError: the engine died, and may have started it.
        """
        self._drop()
        self._was_oom = False
        try:
            order = self._order(call, params)
            self._start(call, order)
        except BadRequest as error:
            raise NoSandbox(
                error.message, hint=error.hint, fault=Fault.FUNCTION, code="command_not_found"
            ) from error
        except EngineRefused as error:
            self._drop()
            program = order.arguments[0] if order.arguments else ""
            raise complaints.image_refused(error.message, self._image, program) from error
        except EngineAway as error:
            self._drop()
            raise NoSandbox(error.message, hint=error.hint) from error

    def kill(self, serial: int) -> None:
        """End a call with all its processes; ``read`` says when nothing of it runs."""
        running = self._running
        if running is None or running.serial != serial:
            return
        running.was_killed = True
        try:
            self._engine.kill(running.id)
        except (EngineAway, EngineRefused) as error:
            # The loop gives it up after a while; removing it is tried once more then.
            log.warning("the container %s was not killed: %s", running.id[:12], error.message)

    def read(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Take what was printed, and give what the program reads; return how it ended.

        Raises:
            EOFError: the engine has lost the container, or died.
            ProtocolError: the engine sends what is no output.
        """
        running = self._running
        if running is None or running.is_silent:
            return []
        for _, events in self._epoll.poll(0):
            if events & select.EPOLLOUT and running.feed():
                self._epoll.modify(running.fileno(), select.EPOLLIN)
            if events & ~select.EPOLLOUT and not running.take():
                self._epoll.unregister(running.fileno())
                running.is_silent = True
                return self.look()
        return []

    def last_words(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return nothing: the engine says how a container ended, not the container."""
        return []

    def look(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return how the call of a container that prints no more has ended, if it has."""
        running, self.wake_at = self._running, None
        if running is None or not running.is_silent or running.is_told:
            return []
        try:
            state = self._engine.ended(running.id, END_S)
        except (EngineAway, EngineRefused) as error:
            raise EOFError(error.message) from error
        if state is None:
            # It closed what it prints to, and goes on.
            self.wake_at = time.monotonic() + LOOK_S
            return []
        self._was_oom = running.was_oom or state.oom_killed
        return [running.end(state.exit_code, self._limits.result)]

    def close(self) -> bool:
        """End and remove the container; return whether it was killed for its memory."""
        if self._running is not None and not self._running.is_told:
            self._was_oom = self._running.was_oom
        self._drop()
        self._epoll.close()
        self._engine.close()
        return self._was_oom

    # --- making it ---------------------------------------------------------------------

    def _order(self, call: agent.Call, params: bytes) -> image_options.ImageOrder:
        expires = int(time.time() + call.timeout_ms / 1000) + EXPIRES_AFTER_S
        settings = self._settings
        return image_options.ImageOrder(
            spec=self._plan.spec,
            arguments=images.arguments(params),
            params=params,
            env={**call.env, "SKEP_DEADLINE_MS": str(call.timeout_ms)},
            network=settings.network if self._plan.network else "",
            labels={
                **asking.labels(settings, self._plan),
                asking.EXPIRES: str(expires),
            },
            quota=not self._no_quota.exists(),
        )

    def _start(self, call: agent.Call, order: image_options.ImageOrder) -> None:
        folder = self._plan.folder.name
        name = f"skep-{self._settings.boot[:12]}-{folder}-{call.attempt}"
        # An engine that dies meanwhile may have made it without our hearing of it.
        self.is_left = True
        container = self._create(name, order)
        self.is_left = False
        self._running = running = Running(call.attempt, container, self._limits, order.params)
        running.connect(self._engine.attach(container))
        try:
            self._engine.start(container)
        except EngineAway as error:
            raise EOFError(error.message) from error
        self._epoll.register(running.fileno(), select.EPOLLIN | select.EPOLLOUT)
        running.kills = self._find_kills(container)

    def _create(self, name: str, order: image_options.ImageOrder) -> str:
        try:
            try:
                return self._engine.create(name, image_options.body(order))
            except EngineRefused as error:
                if not (order.quota and image_options.is_without_quota(error.message)):
                    raise
            self._no_quota.touch()
            plain = dataclasses.replace(order, quota=False)
            return self._engine.create(name, image_options.body(plain))
        except EngineRefused:
            self.is_left = False
            raise

    def _find_kills(self, container: str) -> Kills | None:
        # It may have ended already; then the engine is asked how.
        with contextlib.suppress(EngineAway, EngineRefused):
            return asking.find_kills(self._engine, self._settings.cgroup, container)
        return None

    @property
    def _no_quota(self) -> Path:
        return Path(self._settings.folder, NO_QUOTA_FILE)

    def _drop(self) -> None:
        """Remove the container that there is, whatever it does."""
        running, self._running, self.wake_at = self._running, None, None
        if running is None:
            return
        if running.is_connected and not running.is_silent:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(running.fileno())
        running.close()
        try:
            self._engine.remove(running.id)
        except (EngineAway, EngineRefused) as error:
            self.is_left = True
            log.error("the container %s is left behind: %s", running.id[:12], error.message)
