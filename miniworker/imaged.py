"""The contract ``image``: a call is one fresh container of the function's image.

There is no agent. To the loop this stands where an agent's connections stand: what it is
handed starts a container, and what is read from it says how a call ended.
"""

from __future__ import annotations

import contextlib
import logging
import select
import time
from collections.abc import Mapping
from typing import Final

from miniworker import agent, asking, complaints, image_options
from miniworker.engine import EngineAway, EngineRefused
from miniworker.image_containers import ImageContainers
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


class ImageCalls:
    """The containers of one miniworker, one after another."""

    has_more_to_send = False
    load_ms = 0.0

    def __init__(self, plan: Plan, settings: Mapping[str, str], limits: agent.Limits) -> None:
        self._plan = plan
        self._limits = limits
        self._containers = ImageContainers(plan, settings)
        self._image = self._containers.image
        self._engine = self._containers.engine
        #: Always the same descriptor for the loop, whichever container there is.
        self._epoll = select.epoll()
        self._running: Running | None = None
        self._was_oom = False
        #: When it wants to look again at a container that prints nothing any more.
        self.wake_at: float | None = None

    def __repr__(self) -> str:
        return f"<ImageCalls of {self._image!r}, {self._running!r}>"

    @property
    def channels(self) -> tuple[ImageCalls, ...]:
        """Return what is to be polled."""
        return (self,)

    @property
    def is_left(self) -> bool:
        """Return whether a container may be left that was not removed."""
        return self._containers.is_left

    def open(self) -> None:
        """Make sure that there is an image to make containers of.

        Raises:
            NoSandbox: the engine has none, or not for this machine, or does not answer.
        """
        self._containers.find()

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
            self._start(call, order, params)
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
        return image_options.ImageOrder(
            spec=self._plan.spec,
            arguments=images.arguments(params),
            params=params,
            env={**call.env, "SKEP_DEADLINE_MS": str(call.timeout_ms)},
            network=self._containers.network,
            labels={**self._containers.labels(), asking.EXPIRES: str(expires)},
            quota=self._containers.has_quota,
        )

    def _start(self, call: agent.Call, order: image_options.ImageOrder, params: bytes) -> None:
        container = self._containers.create(order, call.attempt)
        self._running = running = Running(call.attempt, container, self._limits, params)
        running.connect(self._engine.attach(container))
        try:
            self._engine.start(container)
        except EngineAway as error:
            raise EOFError(error.message) from error
        self._epoll.register(running.fileno(), select.EPOLLIN | select.EPOLLOUT)
        running.kills = self._containers.kills(container)

    def _drop(self) -> None:
        """Remove the container that there is, whatever it does."""
        running, self._running, self.wake_at = self._running, None, None
        if running is None:
            return
        if running.is_connected and not running.is_silent:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(running.fileno())
        running.close()
        self._containers.remove(running.id)
