"""What dispatch decides and the shell does: structs, which are made faster than dataclasses."""

from __future__ import annotations

import msgspec

from api.live import Live
from api.roster import Session
from wire.codec import Message
from wire.messages import Cancel


class Send(msgspec.Struct, frozen=True):
    """Hand a message to a worker's socket."""

    session: Session
    message: Message
    payload: bytes = b""


class Hint(msgspec.Struct, frozen=True):
    """Publish a cancel; its truth went by ``Send``."""

    message: Cancel


class Write(msgspec.Struct, frozen=True):
    """The record has a new revision; ``urgent`` if somebody waits for it to be durable."""

    live: Live
    urgent: bool


class Read(msgspec.Struct, frozen=True):
    """Read the params of a call that waits from the store."""

    num: int


class Ended(msgspec.Struct, frozen=True):
    """The call is terminal: whoever waits for it gets its answer."""

    live: Live


class Settled(msgspec.Struct, frozen=True):
    """The call's end is durable: it may leave memory."""

    live: Live


class Emptied(msgspec.Struct, frozen=True):
    """A node drains and nothing is left there, or its session is over."""

    session: Session


Action = Send | Hint | Write | Read | Ended | Settled | Emptied
