"""A body of lines read as it comes, in bounded memory: a line that is too long is let go by."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from api.pace import Pace


async def lines_of(
    request: web.Request, stall_s: float, most: int
) -> AsyncIterator[bytes | None]:
    """Yield the lines of a body, None for one of more than ``most`` bytes.

    Only while nobody works on what was yielded is the client waited for: each piece has
    ``stall_s`` of its own, for a stream may be as slow as what makes it.

    Raises:
        Stalled: nothing came for that long.
    """
    content, line, is_long = request.content, bytearray(), False
    while not content.at_eof():
        piece = await Pace(stall_s).next(content.readany())
        *ended, rest = piece.split(b"\n")
        for part in ended:
            yield None if is_long or len(line) + len(part) > most else bytes(line + part)
            line.clear()
            is_long = False
        is_long = is_long or len(line) + len(rest) > most
        if is_long:
            line.clear()
        else:
            line += rest
    if line or is_long:
        yield None if is_long else bytes(line)
