"""The seam between a miniworker and what confines the code: one Protocol, several drivers.

``confined`` (driver ``process``), ``container`` (``docker``) and ``fake`` stand beside it. A
driver makes exactly one sandbox and knows nothing of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from wire.errors import SkepError
from wire.models import Fault, Reason, Spec

#: The agent's socket, in a folder of its own so that only that need be shown to a sandbox.
SOCKET_FOLDER: Final = "sock"
SOCKET_NAME: Final = "agent.sock"

#: The code of a sandbox that did not come to be because the bundle has to be built again:
#: nobody's fault, and never the reason of a call.
STALE: Final = "stale_bundle"
#: The code of one that needs an agent which this node does not have: another may, and for
#: other functions this node is as good as before.
NO_AGENT: Final = "no_agent"

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
    def is_image(self) -> bool:
        """Return whether the image is the function: then there is no code, and no agent."""
        return self.spec.runtime.contract == "image"

    @property
    def sockets(self) -> Path:
        """Return the folder with the agent's socket."""
        return self.folder / SOCKET_FOLDER


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
    def is_left(self) -> bool:
        """Return whether ``kill`` could not remove all, so that somebody has to sweep."""

    def start(self) -> None:
        """Start the agent, which connects to the socket twice.

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

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed something in here for its memory."""

    def remove(self) -> None:
        """Give back what the sandbox holds; a build's bundle becomes safe to share."""


Driver = Callable[[Plan, Mapping[str, str]], Sandbox]
