"""What should wait on a node before calls come: which generic sandboxes, which functions. Pure.

A *wish* is for sandboxes of one key: a revision's, or that of a kind of generic sandboxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from wire.models import Function, Runtime, Spec
from worker.catalogue import Replica

Policy = Literal["none", "runtime", "function"]
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Wish:
    """So many sandboxes of a key should be there, busy ones included."""

    key: str
    least: int
    #: Of a kind of generic sandboxes: what stands in for a function.
    stand_in: Spec | None = None


@dataclass(slots=True)
class Preload:
    """The policy of a node, and what it means for the catalogue as it stands."""

    replica: Replica = field(default_factory=Replica)
    policy: Policy = "none"
    #: How many generic sandboxes of a kind should wait.
    generic: int = 2
    _wishes: dict[str, Wish] = field(default_factory=dict)
    _stood: tuple[str, int] = ("", 0)

    def refresh(self) -> None:
        """Look at the catalogue again, if it has changed."""
        stands = (self.replica.epoch, self.replica.seq)
        if stands != self._stood:
            self._stood = stands
            found = [*self._functions(), *self._generics()]
            self._wishes = {wish.key: wish for wish in found if wish.least}

    def wishes(self) -> list[Wish]:
        """Return all wishes."""
        return list(self._wishes.values())

    def least(self, key: str) -> int:
        """Return how many sandboxes of a key should be there."""
        wish = self._wishes.get(key)
        return wish.least if wish else 0

    def is_current(self, key: str) -> bool:
        """Return whether calls that come now are of this key, as far as is known."""
        return key in self._wishes or self.replica.is_current(key)

    def kind_of(self, key: str) -> str:
        """Return the kind of generic sandboxes that may become one of this revision, or ""."""
        spec = self.replica.spec(key)
        if spec is None or self._policy_of(spec.function) == "none":
            return ""
        return kind(spec)

    def _policy_of(self, function: Function) -> Policy:
        own = function.preload
        if own is None:
            return self.policy
        # What "image" asks for, every node does that has images.
        return "none" if own == "image" else own

    def _functions(self) -> Iterator[Wish]:
        for spec in self.replica.current():
            function = spec.function
            if spec.runtime.contract == "image":
                # A container of an image is made for a call: none can wait.
                continue
            default = 1 if self._policy_of(function) == "function" else 0
            least = default if function.min_warm is None else function.min_warm
            if function.max_warm is not None:
                # What would leave at once is not made.
                least = min(least, function.max_warm)
            yield Wish(spec.key, least)

    def _generics(self) -> Iterator[Wish]:
        for spec in self._models():
            if name := kind(spec):
                yield Wish(name, self.generic, stand_in(spec))

    def _models(self) -> Iterator[Spec]:
        """Yield a spec of each kind that calls may come for; several may be of one kind."""
        if self.policy == "runtime":
            for runtime in self.replica.runtimes():
                yield Spec(function=_default_function(runtime), runtime=runtime)
        for spec in self.replica.current():
            if self._policy_of(spec.function) == "runtime":
                yield spec


def kind(spec: Spec) -> str:
    """Return what is settled when a sandbox is made, as one name; "" if it has no agent."""
    runtime, function = spec.runtime, spec.function
    if runtime.contract != "agent" or function.image is not None:
        return ""
    cpu = "" if function.cpu is None else f" {function.cpu:g} cpu"
    network = " network" if runtime.network or function.network else ""
    place = f"{runtime.image} {runtime.path} {runtime.agent}"
    return f"generic: {place} {function.memory} MiB{cpu}{network}"


def stand_in(spec: Spec) -> Spec:
    """Return the same without a function: what a sandbox of its kind is made by."""
    function = spec.function
    limits = Function(
        function_name="generic",
        runtime_name=spec.runtime.name,
        memory=function.memory,
        cpu=function.cpu,
        network=function.network,
        project=function.project,
    )
    return Spec(function=limits, runtime=spec.runtime)


def _default_function(runtime: Runtime) -> Function:
    return Function(function_name="generic", runtime_name=runtime.name, project=runtime.project)
