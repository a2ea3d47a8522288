"""Bodies read as models: JSON, forms, merge patches; what does not fit is named."""

from __future__ import annotations

import functools
import json
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from api.bodies import IMAGE_SETTINGS, FunctionPatch, FunctionSettings, shown
from api.plain import plain
from wire.errors import BadRequest
from wire.models import Function, Model, Package

#: Enough for every honest value; what nests deeper breaks parsers on its way.
MAX_DEPTH: Final = 200

B = TypeVar("B", bound=Model)


@functools.cache
def _decoder(model: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(model)


def read(model: type[B], body: bytes) -> B:
    """Read a JSON body as a model.

    Raises:
        BadRequest: it is no JSON in UTF-8, or does not fit; the field is named.
    """
    decoder: msgspec.json.Decoder[B] = _decoder(model)
    try:
        if not body.isascii():
            body.decode()
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            return decoder.decode(_whole_numbers(body))
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def _whole_numbers(body: bytes) -> bytes:
    """Spell a field 5.0 as 5: JSON has one kind of number, and the schema says so.

    The bytes of all other fields stay as they are.
    """
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    for name, raw in fields.items():
        text = bytes(raw)
        if name != "params" and text[0] in b"-0123456789" and float(text).is_integer():
            fields[name] = msgspec.Raw(b"%d" % int(float(text)))
    return msgspec.json.encode(fields)


def read_settings(fields: dict[str, Any]) -> FunctionSettings:
    """Read the fields beside ``module``: text is converted, ``env`` is a JSON object.

    The text ``null`` is as if the field were not there.
    """
    given = {name: value for name, value in fields.items() if value != "null"}
    settings = _converted(given, FunctionSettings)
    _check_way(settings.entry, settings.run)
    return settings


def read_patch(said: bytes | dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a patch changes, null ones as their defaults.

    ``said`` is a JSON body, or the fields of a form: there the text ``null`` is null.
    """
    if isinstance(said, bytes):
        patch = read(FunctionPatch, said)
    else:
        fields = {name: None if value == "null" else value for name, value in said.items()}
        patch = _converted(fields, FunctionPatch)
    given = {name: getattr(patch, name) for name in patch.__struct_fields__}
    given = {name: value for name, value in given.items() if value is not UNSET}
    _check_way(given.get("entry"), given.get("run"))
    defaults = FunctionSettings()
    return {
        name: getattr(defaults, name) if value is None else value
        for name, value in given.items()
    }


def patched(
    before: Function, patch: dict[str, Any], package: Package | None, at: str
) -> Function:
    """Return a function as a patch changes it; a new way to run it replaces the other."""
    if before.image is not None:
        _check_image(before, patch, package)
    elif "image" in patch:
        raise BadRequest(
            f"image makes no sense for {before.function_name!r}: it is code",
            hint="POST /registerFunction/image/NAME makes it an image",
        )
    way: dict[str, Any] = {}
    if patch.get("entry") is not None:
        way = {"run": None}
    elif patch.get("run") is not None:
        way = {"entry": None}
    changes = {**patch, **way, "package": package, "updated_at": at}
    return msgspec.structs.replace(before, **changes)


def _check_image(before: Function, patch: dict[str, Any], package: Package | None) -> None:
    """Refuse what only code could have."""
    fit = {"image", *IMAGE_SETTINGS}
    unfit = [
        name for name, value in patch.items()
        if name not in fit and value != getattr(before, name)
    ]  # fmt: skip
    named = "module" if package is not None else next(iter(unfit), "")
    if named:
        raise BadRequest(
            f"{shown(named)} makes no sense for {before.function_name!r}: it is an image",
            hint="POST /registerFunction/RUNTIME/NAME makes it code",
        )


def _converted(fields: dict[str, Any], model: type[B]) -> B:
    given = dict(fields)
    try:
        for name in ("env", "requires"):
            if isinstance(given.get(name), str):
                given[name] = _texts(name, given[name])
        return msgspec.convert(given, model, strict=False)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from error


def _texts(name: str, text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except ValueError as error:
        raise BadRequest(
            f"{name} is no JSON object of texts: {plain(error)}", hint='write {"NAME": "value"}'
        ) from error


def _check_way(entry: str | None, run: str | None) -> None:
    if entry is not None and run is not None:
        raise BadRequest(
            "entry and run exclude each other",
            hint="entry names a handler (module.function), run a command: choose one",
        )


def check_depth(params: bytes) -> None:
    """Refuse params that nest deeper than parsers on their way can bear.

    Raises:
        BadRequest: they do.
    """
    # Counting brackets is far cheaper than parsing, and enough for nearly every call.
    if not _has_many_brackets(params):
        return
    depth = deepest = 0
    for byte in msgspec.json.encode(_skeleton(params)):
        depth += (byte == 0x5B) - (byte == 0x5D)
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise BadRequest(
            f"params nest deeper than {MAX_DEPTH} levels", hint="flatten them, or send text"
        )


def _has_many_brackets(params: bytes) -> bool:
    """Return whether more brackets open than may nest."""
    found = 0
    for bracket in (b"[", b"{"):
        at = params.find(bracket)
        # Not ``count``: over a megabyte without any it takes forty times as long.
        while at >= 0:
            found += 1
            if found > MAX_DEPTH:
                return True
            at = params.find(bracket, at + 1)
    return False


def _skeleton(params: bytes) -> Any:
    """Return the nesting of params alone, as lists."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return [of(one) for one in value.values()]
        return [of(one) for one in value] if isinstance(value, list) else 0

    try:
        # Not msgspec: it refuses numbers that no float can hold, and params may have them.
        return of(json.loads(params, parse_int=len, parse_float=len))
    except RecursionError as error:
        raise _explained(error) from error


def _explained(error: Exception) -> BadRequest:
    return BadRequest(
        f"the request does not fit: {plain(error)}",
        hint="GET /docs shows each field; names are camelCase",
    )
