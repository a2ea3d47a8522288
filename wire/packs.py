"""Several messages in one: what leaves for one peer in the same turn of a loop. Pure.

A message costs most where it crosses a socket, so a crowd of small ones travels as one PACK and
is taken apart before anybody looks at it. It is sent only to who has shown that it knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NoReturn

from wire.codec import FRAMES, HEADS, P, Payload, pack, unpack
from wire.errors import ProtocolError

KIND: Final = 120
HEAD: Final = HEADS[KIND]
#: A larger message is not copied to be with others.
SMALL_BYTES: Final = 16 << 10
#: How many are put into one, so that what follows is not kept waiting.
MOST: Final = 64

#: What stands before the frames of a message: the routing id on a ROUTER, nothing on a DEALER.
Route = tuple[Payload, ...]


def packed(
    messages: Iterable[Sequence[Payload]], peers: Collection[Route]
) -> list[Sequence[Payload]]:
    """Return the messages with those for each of ``peers`` put together, in their order."""
    out: list[Sequence[Payload]] = []
    open_: dict[Route, list[Sequence[Payload]]] = {}
    for message in messages:
        route = tuple(message[:-FRAMES])
        if route not in peers or message[-3] == HEAD or len(message[-1]) > SMALL_BYTES:
            _close(route, open_, out)
            out.append([*message])
            continue
        together = open_.setdefault(route, [])
        together.append(message)
        if len(together) == MOST:
            _close(route, open_, out)
    for route in list(open_):
        _close(route, open_, out)
    return out


def _close(
    route: Route, open_: dict[Route, list[Sequence[Payload]]], out: list[Sequence[Payload]]
) -> None:
    together = open_.pop(route, None)
    if together is None:
        return
    if len(together) == 1:
        out.append([*together[0]])
        return
    sizes: list[int] = []
    pieces: list[Payload] = []
    for *_, head, header, payload in together:
        sizes += head[2], len(header), len(payload)
        pieces += header, payload
    out.append([*route, HEAD, pack(sizes), b"".join(pieces)])


def unpacked(message: Sequence[P]) -> list[list[P]]:
    """Return the messages of a PACK, each as if it had come alone.

    Raises:
        ProtocolError: its sizes are not those of what it holds.
    """
    *route, _, header, payload = message
    try:
        sizes = unpack(header)
        triples = zip(sizes[::3], sizes[1::3], sizes[2::3], strict=True)
        parts, at = [], 0
        for kind, header_size, payload_size in triples:
            if header_size < 0 or payload_size < 0:
                return _bad("a size below 0")
            between = at + header_size
            end = between + payload_size
            parts.append([*route, HEADS[kind], payload[at:between], payload[between:end]])
            at = end
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ProtocolError(f"bad PACK: {error}") from error
    return parts if at == len(payload) else _bad(f"{len(payload)} bytes, {at} of them named")


def _bad(why: str) -> NoReturn:
    raise ProtocolError(f"bad PACK: {why}")
