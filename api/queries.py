"""What a request says beside its body, as models: the path, the query, and ``Prefer``.

A route names its models (``api.routes``); they are read here, before its handler runs, and
the OpenAPI document is made of the same classes. What no model names is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, TypeVar

import msgspec
from msgspec import Meta

from api.plain import plain
from wire.errors import (
    BadRequest,
    SkepError,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
    UnknownWorker,
)
from wire.models import Model, Name, Number, Strict
from wire.records import ListCalls

MAX_WAIT_S: Final = 300.0
_PREFER_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?", re.IGNORECASE)

CallNum = Annotated[int, Meta(ge=1, le=999_999_999_999_999)]
Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT_S)]


class PathModel(Strict, frozen=True, kw_only=True):
    """The names in a path; what cannot be one is refused as ``refusal``."""

    refusal: ClassVar[type[SkepError]] = BadRequest
    hint: ClassVar[str] = (
        "a name is letters, digits, '.', '_', ':' and '-', at most 128, the first no sign"
    )


class NoPath(PathModel, frozen=True, kw_only=True):
    """A path without names."""


class CallPath(PathModel, frozen=True, kw_only=True):
    """A call, by its number."""

    refusal: ClassVar[type[SkepError]] = UnknownCall
    hint: ClassVar[str] = "GET /calls lists them; /call/1 is one"

    num: CallNum


class RuntimePath(PathModel, frozen=True, kw_only=True):
    """A runtime that is there."""

    refusal: ClassVar[type[SkepError]] = UnknownRuntime
    hint: ClassVar[str] = "GET /runtimes lists them"

    runtime: Name


class FunctionPath(PathModel, frozen=True, kw_only=True):
    """A function that is there."""

    refusal: ClassVar[type[SkepError]] = UnknownFunction
    hint: ClassVar[str] = "GET /functions lists them"

    function: Name


class WorkerPath(PathModel, frozen=True, kw_only=True):
    """A node, by its name."""

    refusal: ClassVar[type[SkepError]] = UnknownWorker
    hint: ClassVar[str] = "GET /workers lists them"

    worker: Name


class NewFunctionPath(PathModel, frozen=True, kw_only=True):
    """A function that is to be, and its runtime."""

    runtime: Name
    function: Name


class NewImagePath(PathModel, frozen=True, kw_only=True):
    """A function that is to be, and is an image."""

    function: Name


class NoQuery(Strict, frozen=True, kw_only=True):
    """No parameter is known here."""


class WaitQuery(Strict, frozen=True, kw_only=True):
    """How many seconds to wait for the end of a call; ``Prefer: wait=S`` says the same."""

    wait: Wait | None = None


class DrainQuery(Strict, frozen=True, kw_only=True):
    """How many seconds to wait until nothing is left on the node."""

    wait: Wait = 0.0


class RevisionQuery(Strict, frozen=True, kw_only=True):
    """Which revision; the newest one if it is not said."""

    revision: Number | None = None


class DeleteQuery(Strict, frozen=True, kw_only=True):
    """Whether calls that were accepted before are ended too; else they still run."""

    cancel: bool = False


class PrepareQuery(Strict, frozen=True, kw_only=True):
    """Whether a node makes the bundle before the function is changed."""

    prepare: bool = False


#: GET /calls takes what the DB node's ``listCalls`` does.
CallsQuery = ListCalls

P = TypeVar("P", bound=PathModel)
Q = TypeVar("Q", bound=Model)


def read_path(model: type[P], said: Mapping[str, str]) -> P:
    """Return the names in a path.

    Raises:
        SkepError: one of them cannot be a name of its kind.
    """
    try:
        return msgspec.convert(dict(said), model, strict=False)
    except ValueError as error:
        shown = "/".join(said.values())
        there = "there can be no" if model.refusal is BadRequest else "there is no"
        message = f"{there} {shown[:200]!r}: {plain(error)}"
        raise model.refusal(message, hint=model.hint) from error


def read_query(model: type[Q], said: Mapping[str, str]) -> Q:
    """Return the parameters of a query.

    Raises:
        BadRequest: one is unknown, or its value is none; the message names it.
    """
    if not said:
        return model()
    _check_names(model, said)
    try:
        query = msgspec.convert(dict(said), model, strict=False)
    except ValueError as error:
        raise BadRequest(
            f"a parameter does not fit: {plain(error)}", hint="GET /docs shows what each may be"
        ) from error
    names = _names(model)
    for name in said:
        if getattr(query, names[name]) is None:
            # Of text, "null" is taken for None; but what is not wanted is left out.
            raise BadRequest(f"{name}=null is no value", hint="leave it out")
    return query


@functools.cache
def _names(model: type[Model]) -> dict[str, str]:
    """Return the fields of a model by their names outside; finding them out is dear."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(model)}


def _check_names(model: type[Model], said: Mapping[str, str]) -> None:
    names = _names(model)
    for name in said:
        if name not in names:
            known = f"known are {', '.join(sorted(names))}" if names else "there are none here"
            raise BadRequest(f"unknown parameter {name[:80]!r}", hint=known)
    twice = len(said) - len(set(said))
    if twice:
        raise BadRequest(
            f"a parameter is there twice, of {', '.join(sorted(set(said)))[:80]}",
            hint="say each once",
        )


def wait_s(query: WaitQuery, prefer: str) -> float:
    """Return how long to wait for a call's end: ``?wait=`` or ``Prefer: wait=``; 0 is not."""
    if query.wait is not None:
        return query.wait
    found = _PREFER_WAIT.search(prefer)
    # A preference may be followed in part (RFC 7240): a longer wait is cut.
    return min(MAX_WAIT_S, float(found[1])) if found else 0.0
