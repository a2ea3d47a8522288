"""What dispatch decides and the shell does."""

from __future__ import annotations

from dataclasses import dataclass

from api.live import Live
from api.roster import Session
from wire.codec import Message
from wire.messages import Cancel


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a message to a worker's socket."""

    session: Session
    message: Message
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Hint:
    """Publish a cancel; its truth went by ``Send``."""

    message: Cancel


@dataclass(frozen=True, slots=True)
class Write:
    """The record has a new revision; ``urgent`` if somebody waits for it to be durable."""

    live: Live
    urgent: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is terminal: whoever waits for it gets its answer."""

    live: Live


@dataclass(frozen=True, slots=True)
class Settled:
    """The call's end is durable: it may leave memory."""

    live: Live


Action = Send | Hint | Write | Ended | Settled
