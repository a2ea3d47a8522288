"""What ``attempts`` orders: plain data, carried out by the shell in ``loop``."""

from __future__ import annotations

from dataclasses import dataclass

from wire import jobs
from wire.codec import Message


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt on this miniworker, by the ``serial`` that its agent knows it by.

    The number of an attempt would not do: those of different calls are the same.
    """

    serial: int
    job: jobs.Job
    params: bytes
    arrived: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the worker."""

    message: Message
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Hand:
    """Give this attempt to the agent: from here on it may have begun."""

    held: Held


@dataclass(frozen=True, slots=True)
class KillAttempt:
    """Tell the agent to end this attempt."""

    serial: int


@dataclass(frozen=True, slots=True)
class Destroy:
    """Kill the sandbox; ``gone`` is told when that has happened."""


Action = Tell | Hand | KillAttempt | Destroy
