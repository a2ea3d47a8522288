"""The seam between a miniworker and what confines the code: one Protocol, several drivers.

``confined`` (driver ``process``), ``container`` (``docker``) and ``fake`` stand beside it. A
driver makes exactly one sandbox and knows nothing of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from wire import baked
from wire.errors import SkepError
from wire.models import Fault, Reason, Spec

#: The agent's socket, in a folder of its own so that only that need be shown to a sandbox.
SOCKET_FOLDER: Final = "sock"
SOCKET_NAME: Final = "agent.sock"

#: The code of a sandbox that did not come to be because the bundle has to be built again:
#: nobody's fault, and never the reason of a call.
STALE: Final = "stale_bundle"
#: The same of one whose image is not any more what was baked of its function.
STALE_IMAGE: Final = "stale_image"
#: The code of one that needs an agent which this node does not have: another may, and for
#: other functions this node is as good as before.
NO_AGENT: Final = "no_agent"

#: The code of one whose containers this worker cannot speak to: as above.
NO_REACH: Final = "no_reach"

#: Agents whose part the python agent's command mode takes where they cannot run.
COMMANDS_BY_PYTHON: Final = frozenset({"python", "none", "node", "php", "shell"})


class NoSandbox(SkepError):
    """A sandbox could not be made, or its agent did not get ready."""

    code = "no_sandbox"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        fault: Fault = Fault.NODE,
        code: str = "no_sandbox",
        log: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault
        #: What was printed on the way there.
        self.log = log
        #: Whether something of it is left that only a sweep can remove.
        self.is_left = False
        self.reason = Reason(code=code, message=f"{message}; {hint}" if hint else message)


def no_agent(name: str, hint: str) -> NoSandbox:
    """Return why there is no sandbox where nothing speaks for its runtime."""
    return NoSandbox(f"this node has no agent {name!r}", hint=hint, code=NO_AGENT)


def no_reach(message: str, hint: str = "") -> NoSandbox:
    """Return why there is no sandbox where this worker cannot get at what serves in it."""
    where = hint or "run the worker on the engine's own host, and not in a container"
    return NoSandbox(message, hint=where, code=NO_REACH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sandbox is for. A ``build`` one has the network and may change the bundle."""

    spec: Spec
    bundle: Path
    #: Of the miniworker alone; it is removed with it.
    folder: Path
    build: bool = False
    #: No code yet: ``bundle`` is the folder of all bundles, none of which may be listed.
    generic: bool = False
    #: Of a build: how it reaches package indexes. Files named here are shown to it.
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def network(self) -> bool:
        """Return whether the sandbox may reach the network."""
        return self.build or self.spec.runtime.network or self.spec.function.network

    @property
    def is_baked(self) -> bool:
        """Return whether the code is in the image already."""
        return str(self.bundle) == baked.BUNDLE

    @property
    def image(self) -> str:
        """Return the name of the image that a container is made of."""
        if self.is_baked and self.spec.function.baked_image:
            return self.spec.function.baked_image
        return self.spec.runtime.image

    @property
    def is_image(self) -> bool:
        """Return whether each call is a run of the image: then there is no agent."""
        return self.spec.runtime.contract == "image"

    @property
    def is_server(self) -> bool:
        """Return whether a call is a request to what runs in there, without an agent."""
        return self.spec.runtime.contract == "http" and not self.build

    @property
    def sockets(self) -> Path:
        """Return the folder with the agent's socket."""
        return self.folder / SOCKET_FOLDER


class Connection(Protocol):
    """What a channel needs of a socket."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""

    def setblocking(self, flag: bool, /) -> None:
        """Wait, or raise ``BlockingIOError``."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send some of it; return how much."""

    def recv(self, size: int, /) -> bytes:
        """Return some of what came; empty at the end."""

    def shutdown(self, how: int, /) -> None:
        """End it for the other side."""

    def close(self) -> None:
        """Close it."""


class Sandbox(Protocol):
    """One sandbox. ``kill`` and ``remove`` do no harm when called again or too early."""

    @property
    def path(self) -> str:
        """Return the runtime's ``path``, or what stands in for it, as seen inside."""

    @property
    def bundle(self) -> str:
        """Return the bundle's folder as seen inside; equal to ``path`` in a build."""

    @property
    def env(self) -> Mapping[str, str]:
        """Return what a function's environment begins with: PATH, HOME, PIP_TARGET."""

    @property
    def line(self) -> Connection | None:
        """Return the one connection to the agent that ``start`` made; None: it makes two."""

    @property
    def is_left(self) -> bool:
        """Return whether ``kill`` could not remove all, so that somebody has to sweep."""

    def start(self) -> None:
        """Start the agent, which connects to the socket twice if there is no ``line``.

        Raises:
            NoSandbox: the node cannot.
        """

    def adopt(self, plan: Plan) -> None:
        """Be, from now on, for this plan: of a generic sandbox, once, before ``init``.

        Only the bundle and what ``init`` brings differ from the plan that it was made by.

        Raises:
            NoSandbox: it does not fit.
        """

    def has_ended(self) -> bool:
        """Return whether the first process has ended (or was never started)."""

    def kill(self) -> None:
        """End every process of the sandbox; when this returns none is left."""

    def collect(self) -> None:
        """Have in the bundle what a build made; before ``kill``, when it went well.

        Raises:
            NoSandbox: it cannot be had.
        """

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed something in here for its memory."""

    def remove(self) -> None:
        """Give back what the sandbox holds; a build's bundle becomes safe to share."""


Driver = Callable[[Plan, Mapping[str, str]], Sandbox]
