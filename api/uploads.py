"""POST /registerFunction: a multipart body read as it comes, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import BodyPartReader, web

from api.bodies import FunctionSettings, read_settings
from api.packages import Packages
from wire.errors import BadRequest, TooLarge
from wire.models import Package

PIECE_BYTES: Final = 256 << 10
#: All text fields together.
MAX_TEXT_BYTES: Final = 1 << 20
_MODULE: Final = "module"


async def read_upload(
    request: web.Request, packages: Packages
) -> tuple[Package, FunctionSettings]:
    """Return the stored package and the settings of a registration.

    The package is the caller's to ``release``.

    Raises:
        BadRequest: it is no multipart form, has no field ``module``, or unknown fields.
        SkepError: the package was not taken in, and why.
    """
    if request.content_type != "multipart/form-data":
        raise BadRequest(
            f"this route takes multipart/form-data, not {request.content_type}",
            hint="curl: -F module=@function.tar.gz",
        )
    upload = _Upload(packages)
    try:
        return await _read(request, upload)
    except BaseException:
        upload.drop()
        raise


async def _read(request: web.Request, upload: _Upload) -> tuple[Package, FunctionSettings]:
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise BadRequest("a multipart form inside a field makes no sense here")
            await upload.take(part)
    except (ValueError, AssertionError, EOFError) as error:
        raise BadRequest(
            f"the multipart form is broken: {error}", hint="was it sent completely?"
        ) from error
    return upload.result()


class _Upload:
    def __init__(self, packages: Packages) -> None:
        self._packages = packages
        self._package: Package | None = None
        self._fields: dict[str, Any] = {}
        self._text_bytes = 0

    async def take(self, part: BodyPartReader) -> None:
        name = part.name or ""
        if name == _MODULE:
            if self._package is not None:
                raise BadRequest("the field module is there twice", hint="send one archive")
            filename = part.filename or "module"
            self._package = await self._packages.store(_pieces(part), filename)
        elif part.headers.get("Content-Type", "").startswith("application/json"):
            self._fields |= _object(await self._text(part), name)
        else:
            self._fields[name] = (await self._text(part)).decode(errors="strict")

    def drop(self) -> None:
        if self._package is not None:
            self._packages.release(self._package)

    def result(self) -> tuple[Package, FunctionSettings]:
        if self._package is None:
            raise BadRequest(
                "the field module is missing", hint="curl: -F module=@function.tar.gz"
            )
        return self._package, read_settings(self._fields)

    async def _text(self, part: BodyPartReader) -> bytes:
        text = b""
        async for piece in _pieces(part):
            self._text_bytes += len(piece)
            if self._text_bytes > MAX_TEXT_BYTES:
                raise TooLarge("the text fields are too large", hint="at most 1 MiB in all")
            text += piece
        return text


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while piece := await part.read_chunk(PIECE_BYTES):
        yield piece


def _object(text: bytes, name: str) -> dict[str, Any]:
    value = msgspec.json.decode(text)
    if not isinstance(value, dict):
        raise BadRequest(f"the JSON field {name!r} is no object")
    return value
