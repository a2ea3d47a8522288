"""From arguments to params, and from a record to a value or an exception."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skep.errors import CallFailed, StillRunning
from skep.records import TERMINAL, Call, CallSettings

#: What a key may be made of: what a header carries as it is.
_VISIBLE: Final = range(0x21, 0x7F)
_LONGEST_KEY: Final = 255
NO_PARAMS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How a call is made; None leaves it to the function, or to skep.

    ``timeout`` and ``max_wait`` bound the call (seconds it may run; seconds in which it must
    have begun), ``wait`` only how long we look after it.
    """

    timeout: float | None = None
    max_wait: float | None = None
    revision: int | None = None
    idempotency_key: str | None = None
    wait: float | None = None

    def settings(self) -> CallSettings:
        """Return what of it the server is told, as HTTP spells it."""
        return {
            "timeout": self.timeout,
            "maxWait": self.max_wait,
            "revision": self.revision,
        }

    def key(self, index: int) -> str | None:
        """Return the key of one of many calls: the same again when all are repeated."""
        return numbered(self.idempotency_key, index)


def params_of(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Return the params that stand for arguments, as a handler would get them back.

    Nothing is ``{}``, one argument is the params themselves, several are a list, and names
    make an object.

    Raises:
        TypeError: some are named and some are not.
    """
    if arguments and named:
        raise TypeError("give the params by position or by name, not both")
    if len(arguments) == 1:
        return arguments[0]
    return list(arguments) or dict(named)


def is_ended(call: Call) -> bool:
    """Return whether a call will never change again."""
    return call["status"] in TERMINAL


def value_of(call: Call, waited: float | None = None) -> Any:
    """Return the value of a call: its text, what its JSON says, or its bytes.

    Raises:
        CallFailed: it ended, but not DONE.
        StillRunning: it has not ended.
    """
    if not is_ended(call):
        raise StillRunning(call, waited)
    if call["status"] != "DONE":
        raise CallFailed(call)
    if call.get("resultEncoding") == "base64":
        return base64.b64decode(call["result"])
    return json.loads(call["result"]) if call.get("resultType") == "json" else call["result"]


def checked_key(key: str) -> str:
    """Return an idempotency key that a header may carry.

    Raises:
        ValueError: it is empty, too long, or holds other than visible ASCII characters.
    """
    if not 0 < len(key) <= _LONGEST_KEY or any(ord(char) not in _VISIBLE for char in key):
        raise ValueError(
            f"an idempotency key is 1 to {_LONGEST_KEY} visible ASCII characters; "
            f"{key[:40]!r} is not"
        )
    return key


def numbered(key: str | None, index: int) -> str | None:
    """Return the key of one of many calls that have a key together, or none."""
    return None if key is None else f"{key}:{index}"
