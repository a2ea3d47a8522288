"""From a plan to a sandbox whose agent is ready for calls."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from miniworker import agent, meeting
from miniworker.channel import Channel
from miniworker.complaints import no_room
from miniworker.mark import Mark
from miniworker.sandbox import Driver, NoSandbox, Plan, Sandbox
from wire.models import Fault

#: errno of a disk, or a share of it, that is full.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Agents that run commands only.
WITHOUT_HANDLERS: Final = frozenset({"none", "shell"})


class Line(Protocol):
    """What the loop polls, and reads how calls end from."""

    @property
    def has_more_to_send(self) -> bool:
        """Return whether it waits to be writable."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""

    def flush(self) -> None:
        """Send what goes now."""

    def read(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return what was said.

        Raises:
            EOFError: nothing more will be said.
            ProtocolError: what was said is none of it.
        """


class Serving(Protocol):
    """What runs calls: a sandbox with its agent, or an image (``imaged``)."""

    @property
    def channels(self) -> Sequence[Line]:
        """Return what is to be polled."""

    @property
    def load_ms(self) -> float:
        """Return what putting the code in, and loading it, took."""

    @property
    def wake_at(self) -> float | None:
        """Return when ``look`` is wanted; None if only its channels will tell."""

    @property
    def is_left(self) -> bool:
        """Return whether ``close`` could not remove all, so that somebody has to sweep."""

    def hand(self, call: agent.Call, params: bytes) -> None:
        """Begin a call.

        Raises:
            NoSandbox: it was not begun.
            EOFError: it may have been, and all is lost.
        """

    def kill(self, serial: int) -> None:
        """End a call."""

    def look(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return what there is to say at the time of ``wake_at``; raise as reading does."""

    def last_words(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return what was said before a channel broke, and is not read yet.

        Raises:
            ProtocolError: what was said is no frame.
        """

    def begun(self) -> int | None:
        """Return the serial of the last call that began; None if nobody knows."""

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed for want of memory since this was asked last."""

    def close(self) -> bool:
        """End all; return whether the kernel killed for want of memory."""


@dataclass(slots=True, kw_only=True)
class Opened:
    """A sandbox and the connections to its agent."""

    sandbox: Sandbox
    control: Channel
    data: Channel
    #: Its maker's, who closes it.
    mark: Mark
    #: Whether the agent writes the mark.
    marks: bool
    #: Whether it takes a handler's calls before the one that runs has ended.
    takes_ahead: bool = False
    #: From ``init`` to the agent's being ready: putting the code in, and loading it.
    load_ms: float = 0.0
    wake_at: float | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Return the two connections, or the one that is both."""
        return (self.control,) if self.control is self.data else (self.control, self.data)

    @property
    def is_left(self) -> bool:
        """Return whether somebody has to sweep after ``close``."""
        return self.sandbox.is_left

    def hand(self, call: agent.Call, params: bytes) -> None:
        """Give a call to the agent."""
        self.data.send(call, params)

    def kill(self, serial: int) -> None:
        """Tell the agent to end a call."""
        self.control.send(agent.Kill(attempt=serial))

    def look(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return nothing: an agent speaks by itself."""
        return []

    def last_words(self) -> list[tuple[agent.FromAgent, bytes]]:
        """Return what came by both connections: either may break first."""
        return [word for channel in self.channels for word in channel.read_last()]

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed something in the sandbox."""
        return self.sandbox.out_of_memory()

    def begun(self) -> int | None:
        """Return the serial of the last attempt that began; None if nobody knows."""
        return self.mark.read() if self.marks else None

    def revoke(self, serial: int) -> int:
        """Let nothing up to this serial begin any more; return the last that has."""
        return self.mark.revoke(serial)

    def collect(self) -> None:
        """Have in the bundle what a build made; raise ``NoSandbox`` if that fails."""
        try:
            self.sandbox.collect()
        except OSError as error:
            raise _explained(error) from error

    def close(self) -> bool:
        """End the sandbox; return whether the kernel killed for want of memory."""
        self.control.close()
        self.data.close()
        return _end(self.sandbox)


def open_sandbox(
    driver: Driver,
    plan: Plan,
    settings: Mapping[str, str],
    run: str,
    limits: agent.Limits,
    mark: Mark,
) -> Opened:
    """Make the sandbox and get its agent ready.

    Raises:
        NoSandbox: it cannot be made, and nothing of it is left.
    """
    _check_entry(plan)
    opened = meet(driver, plan, settings, limits, mark)
    _put_in(opened, plan, run, limits)
    return opened


def meet(
    driver: Driver,
    plan: Plan,
    settings: Mapping[str, str],
    limits: agent.Limits,
    mark: Mark,
) -> Opened:
    """Make the sandbox and hear its agent's first word; what it is for is not said yet.

    Raises:
        NoSandbox: it cannot be made, and nothing of it is left.
    """
    try:
        return _meet(driver(plan, settings), plan, limits, mark)
    except OSError as error:
        raise _explained(error) from error


def specialise(opened: Opened, plan: Plan, run: str, limits: agent.Limits) -> None:
    """Put this code into a generic sandbox, and get its agent ready.

    Raises:
        NoSandbox: that fails, and nothing of the sandbox is left.
    """
    try:
        _check_entry(plan)
        opened.sandbox.adopt(plan)
    except NoSandbox as error:
        opened.close()
        error.is_left = opened.sandbox.is_left
        raise
    _put_in(opened, plan, run, limits)


def _meet(sandbox: Sandbox, plan: Plan, limits: agent.Limits, mark: Mark) -> Opened:
    listener = meeting.Meeting(plan, limits)
    try:
        sandbox.start()
        control, data = listener.accept(sandbox)
    except NoSandbox as error:
        _end(sandbox)
        error.is_left = sandbox.is_left
        raise
    except OSError:
        _end(sandbox)
        raise
    finally:
        listener.close()
    opened = Opened(sandbox=sandbox, control=control, data=data, mark=mark, marks=False)
    try:
        hello = meeting.greet(control, sandbox)
        opened.marks, opened.takes_ahead = hello.mark, hello.mark and hello.ahead
    except NoSandbox as error:
        opened.close()
        error.is_left = sandbox.is_left
        raise
    except OSError:
        opened.close()
        raise
    return opened


def _put_in(opened: Opened, plan: Plan, run: str, limits: agent.Limits) -> None:
    """Say what the sandbox is for, and wait until the code is in place and loaded."""
    began = time.monotonic()
    init = _init(plan, opened.sandbox, run, limits)
    mark = opened.mark if opened.marks else None
    try:
        meeting.agree(opened.control, init, mark, opened.sandbox)
    except NoSandbox as error:
        limit = plan.spec.function.memory
        known = no_room(limit, error.log) if opened.close() and not plan.build else error
        known.is_left = opened.sandbox.is_left
        raise known from error.__cause__
    except OSError as error:
        opened.close()
        raise _explained(error) from error
    opened.load_ms = (time.monotonic() - began) * 1000


def _explained(error: OSError) -> NoSandbox:
    code = "no_space" if error.errno in NO_SPACE else "no_sandbox"
    return NoSandbox(f"the sandbox could not be made: {error}", code=code)


def _check_entry(plan: Plan) -> None:
    """Refuse an entry where nothing could load it."""
    function, runtime = plan.spec.function, plan.spec.runtime
    if function.entry and not plan.build and runtime.agent in WITHOUT_HANDLERS:
        raise NoSandbox(
            f"entry {function.entry!r} needs an agent that loads functions, and that of the "
            f"runtime {runtime.name!r} is {runtime.agent!r}",
            hint='register the runtime with "agent": "python", or give the function a run',
            fault=Fault.FUNCTION,
            code="entry_not_found",
        )


def _end(sandbox: Sandbox) -> bool:
    sandbox.kill()
    oom = sandbox.out_of_memory()
    sandbox.remove()
    return oom


def _init(plan: Plan, sandbox: Sandbox, run: str, limits: agent.Limits) -> agent.Init:
    function, runtime = plan.spec.function, plan.spec.runtime
    env = {**sandbox.env, **runtime.env}
    if not plan.build:
        env |= function.env
        env["SKEP_FUNCTION"] = function.function_name
        env["SKEP_REVISION"] = str(function.revision)
    return agent.Init(
        path=sandbox.path,
        bundle=sandbox.bundle,
        run=run,
        entry="" if plan.build else function.entry or "",
        isolation=function.isolation,
        env=env,
        limits=limits,
    )
