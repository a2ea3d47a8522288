"""What ``attempts`` orders: plain data, carried out by the shell in ``loop``."""

from __future__ import annotations

import msgspec

from wire import jobs
from wire.codec import Message


class Held(msgspec.Struct, frozen=True):
    """An attempt on this miniworker, by the ``serial`` that its agent knows it by.

    The number of an attempt would not do: those of different calls are the same.
    """

    serial: int
    job: jobs.Job
    params: bytes
    arrived: float


class Tell(msgspec.Struct, frozen=True):
    """Send this to the worker."""

    message: Message
    payload: bytes = b""


class Hand(msgspec.Struct, frozen=True):
    """Give this attempt to the agent: from here on it may have begun."""

    held: Held
    #: Whether another one runs, so that this one's time has not begun.
    ahead: bool = False


class Revoke(msgspec.Struct, frozen=True):
    """Let nothing up to this serial begin any more; ``revoked`` is told what has."""

    serial: int


class KillAttempt(msgspec.Struct, frozen=True):
    """Tell the agent to end this attempt."""

    serial: int


class Destroy(msgspec.Struct, frozen=True):
    """Kill the sandbox; ``gone`` is told when that has happened."""


Action = Tell | Hand | Revoke | KillAttempt | Destroy
