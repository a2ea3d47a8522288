"""A multipart body read as it comes, in bounded memory: text fields and the ``module``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import BodyPartReader, web

from api.bodies import SETTINGS
from api.pace import Pace, invite
from api.packages import Uploading
from wire.errors import BadRequest, TooLarge

PIECE_BYTES: Final = 256 << 10
#: All text fields together.
MAX_TEXT_BYTES: Final = 1 << 20
#: No form of ours has more fields; each one costs the reader something.
MAX_FIELDS: Final = 100
_MODULE: Final = "module"


async def read_upload(request: web.Request, uploading: Uploading, pace: Pace) -> dict[str, Any]:
    """Take the file in and return the other fields: texts, or what a JSON field says.

    Raises:
        BadRequest: it is no multipart form, or a broken one.
        SkepError: the package was not taken in, and why.
    """
    if request.content_type != "multipart/form-data":
        raise BadRequest(
            f"this route takes multipart/form-data, not {request.content_type}",
            hint="curl: -F module=@function.tar.gz",
        )
    uploading.check_size(request.content_length or 0, MAX_TEXT_BYTES + MAX_FIELDS * 1024)
    await invite(request)
    form = _Form(uploading, pace)
    try:
        reader = await request.multipart()
        while (part := await pace.next(reader.next())) is not None:
            if not isinstance(part, BodyPartReader):
                raise BadRequest("a multipart form inside a field makes no sense here")
            await form.take(part)
    except (ValueError, AssertionError, EOFError, RuntimeError, LookupError) as error:
        raise BadRequest(
            f"the multipart form is broken: {error}", hint="was it sent completely?"
        ) from error
    return form.fields


class _Form:
    def __init__(self, uploading: Uploading, pace: Pace) -> None:
        self.fields: dict[str, Any] = {}
        self._uploading = uploading
        self._pace = pace
        self._text_bytes = 0
        self._parts = 0

    async def take(self, part: BodyPartReader) -> None:
        name = part.name or ""
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise BadRequest(f"the form has more than {MAX_FIELDS} fields")
        if not name:
            raise BadRequest("a field of the form has no name", hint="curl: -F name=value")
        if name == _MODULE:
            await self._module(part)
        elif part.headers.get("Content-Type", "").startswith("application/json"):
            self._take_json(name, msgspec.json.decode(await self._text(part)))
        elif part.filename is not None and name not in SETTINGS:
            raise BadRequest(
                f"the field {name[:80]!r} is a file, and no setting",
                hint="the archive goes into the field module: curl -F module=@FILE",
            )
        else:
            self._put(name, (await self._text(part)).decode(errors="strict"))

    async def _module(self, part: BodyPartReader) -> None:
        if self._uploading.package is not None:
            raise BadRequest("the field module is there twice", hint="send one archive")
        if part.filename is None and not part.headers.get("Content-Type"):
            raise BadRequest("the field module is no file", hint="curl: -F module=@FILE")
        await self._uploading.receive(self._pieces(part), part.filename or "module")

    def _take_json(self, name: str, value: Any) -> None:
        """Take a JSON field: a setting, if it is named like one, else an object of them."""
        if name in SETTINGS:
            self._put(name, value)
            return
        if not isinstance(value, dict):
            raise BadRequest(f"the JSON field {name[:80]!r} is no object")
        for key, each in value.items():
            self._put(key, each)

    def _put(self, name: str, value: Any) -> None:
        if name in self.fields:
            raise BadRequest(f"the field {name[:80]!r} is there twice", hint="send it once")
        self.fields[name] = value

    async def _text(self, part: BodyPartReader) -> bytes:
        text = bytearray()
        async for piece in self._pieces(part):
            self._text_bytes += len(piece)
            if self._text_bytes > MAX_TEXT_BYTES:
                raise TooLarge("the text fields are too large", hint="at most 1 MiB in all")
            text += piece
        return bytes(text)

    async def _pieces(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        while piece := await self._pace.next(part.read_chunk(PIECE_BYTES)):
            self._pace.came(len(piece))
            yield piece
