"""Functions that are images: their built-in runtime, and how params become arguments. Pure.

With the contract ``image`` params are the arguments of a program; with ``http`` they are what
a server is sent, and can be anything.

Nobody registers the runtime ``image``, and no store keeps it: whoever needs the runtime of
such a function makes it of the function.
"""

from __future__ import annotations

import shlex
from typing import Final

import msgspec

from wire.errors import BadRequest
from wire.models import Function, Runtime

#: The name of the runtime that all functions have which are images.
RUNTIME: Final = "image"
#: What the kernel lets one argument have, without its final zero byte (MAX_ARG_STRLEN).
ARGUMENT_BYTES: Final = (128 << 10) - 1
#: All of them together share their room with the environment.
ARGUMENTS_BYTES: Final = 1 << 20

_NONE: Final = (b"{}", b"null")


def runtime_of(function: Function) -> Runtime | None:
    """Return the runtime of a function that is an image; None for any other."""
    if function.image is None:
        return None
    return Runtime(
        name=RUNTIME,
        image=function.image,
        path="/",
        contract=function.contract or "image",
        id=RUNTIME,
        revision=1,
        project=function.project,
    )


def registry_of(image: str) -> str:
    """Return the registry that the name of an image begins with; empty if it names none.

    By the rule of Docker: what stands before the first slash, if it looks like a host.
    """
    first, slash, _ = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else ""


def arguments(params: bytes) -> tuple[str, ...]:
    """Return what a call's params are as arguments of a program.

    A list is one argument for each of its values: text as it is, anything else as its JSON. A
    string is split as a shell would. ``{}`` and ``null`` are none, and whatever is left is one
    argument, its JSON.

    Raises:
        BadRequest: no program can be given these.
    """
    try:
        found = _arguments(msgspec.Raw(params.strip()))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the params cannot be arguments: {error}", hint=_HINT) from error
    _check(found)
    return found


def _arguments(params: msgspec.Raw) -> tuple[str, ...]:
    first = bytes(params)[:1]
    if first == b"[":
        values = msgspec.json.decode(params, type=list[msgspec.Raw])
        return tuple(map(_argument, values))
    if first == b'"':
        return tuple(shlex.split(msgspec.json.decode(params, type=str)))
    return () if b"".join(bytes(params).split()) in _NONE else (_argument(params),)


def _argument(value: msgspec.Raw) -> str:
    raw = bytes(value).strip()
    return msgspec.json.decode(raw, type=str) if raw[:1] == b'"' else raw.decode()


def _check(found: tuple[str, ...]) -> None:
    try:
        sizes = [len(argument.encode()) for argument in found]
    except UnicodeEncodeError as error:
        raise BadRequest("an argument is no text in UTF-8", hint=_HINT) from error
    if any("\0" in argument for argument in found):
        raise BadRequest("an argument has a zero byte in it", hint=_HINT)
    if max(sizes, default=0) > ARGUMENT_BYTES or sum(sizes) > ARGUMENTS_BYTES:
        raise BadRequest(
            f"the arguments are too long: one may have {ARGUMENT_BYTES} bytes, "
            f"all of them {ARGUMENTS_BYTES}",
            hint="put the data where the program can fetch it, or use a runtime",
        )


_HINT: Final = 'params are the arguments: ["-n", "3"], or "-n 3" split as a shell would'
