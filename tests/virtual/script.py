"""What functions and nodes do in virtual time: how long things take, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from wire.models import Fault, Reason, Spec, Status
from worker.actions import Id


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution goes."""

    seconds: float
    status: Status = Status.DONE
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a sandbox or a bundle could not be made."""

    fault: Fault
    reason: Reason


class Script(Protocol):
    """Says it; each question is asked once for what it is about."""

    def spec(self, key: str) -> Spec:
        """Return the revision of a key."""

    def fork_s(self) -> float:
        """Return how long a miniworker takes to fork."""

    def bundle(self, key: str) -> float | Trouble:
        """Return how long the code takes to come, or why it does not."""

    def make(self, spec: Spec) -> float | Trouble:
        """Return how long a sandbox takes to get ready, or why it does not."""

    def begin(self, id_: Id, key: str, boot: str) -> Ending:
        """An execution begins here: note it, and say how it will go."""
