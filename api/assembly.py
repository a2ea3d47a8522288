"""Results that come in parts: the four channels put together again, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wire.errors import ProtocolError
from wire.messages import Result

#: params, result, stdout, stderr
CHANNELS: Final = 4


@dataclass(slots=True)
class _Parts:
    channels: tuple[bytearray, ...] = field(
        default_factory=lambda: tuple(bytearray() for _ in range(CHANNELS))
    )
    size: int = 0
    #: More came than may be kept: the bytes are dropped, the end still counts.
    over: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """What came of one attempt, complete."""

    params: bytes
    result: bytes
    stdout: bytes
    stderr: bytes
    #: It was larger than may be, and its bytes are gone.
    over: bool = False


class Assembly:
    """The unfinished results of every session."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: dict[tuple[int, int, int], _Parts] = {}

    def __repr__(self) -> str:
        return f"<Assembly of {len(self._parts)} results>"

    def add(self, message: Result, payload: bytes) -> Whole | None:
        """Take a part; return the whole if it was the end.

        Raises:
            ProtocolError: the sizes do not fit the payload.
        """
        slices = _cut(message.sizes, payload)
        key = (message.session, message.call, message.attempt)
        if message.outcome is not None and key not in self._parts:
            return _whole(slices)
        parts = self._parts.setdefault(key, _Parts())
        self._append(parts, slices, len(payload))
        if message.outcome is None:
            return None
        del self._parts[key]
        return _whole([bytes(channel) for channel in parts.channels], over=parts.over)

    def _append(self, parts: _Parts, slices: list[bytes], size: int) -> None:
        parts.size += size
        if parts.size > self._max_bytes:
            parts.over = True
            for channel in parts.channels:
                channel.clear()
        else:
            for channel, piece in zip(parts.channels, slices, strict=True):
                channel.extend(piece)

    def drop(self, session: int) -> None:
        """Forget the parts of a session that is over: they are sent again."""
        for key in [key for key in self._parts if key[0] == session]:
            del self._parts[key]


def _whole(channels: list[bytes], *, over: bool = False) -> Whole:
    params, result, stdout, stderr = channels
    return Whole(params, result, stdout, stderr, over)


def _cut(sizes: tuple[int, ...], payload: bytes) -> list[bytes]:
    if sum(sizes) != len(payload):
        raise ProtocolError("the sizes of a RESULT do not fit its payload")
    slices, at = [], 0
    for size in sizes:
        slices.append(payload[at : at + size])
        at += size
    return slices
