"""The endpoints of runtimes and functions."""

from __future__ import annotations

from typing import Final

from api.answers import FunctionShown
from api.asked import JSON, NDJSON, Answer, Route, ok
from api.bodies import FunctionPatch, FunctionSettings, ImageFunction, RegisterRuntime
from api.queries import (
    DeleteQuery,
    FunctionPath,
    NewFunctionPath,
    NewImagePath,
    PrepareQuery,
    RevisionQuery,
    RuntimePath,
)
from wire.errors import (
    Conflict,
    InstallFailed,
    NoSandbox,
    NoSpace,
    NoWorker,
    SkepError,
    Stalled,
    StoreUnavailable,
    TooLarge,
    UnknownFunction,
    UnknownRuntime,
    UnsafeArchive,
    UnsupportedArchive,
)
from wire.models import Runtime

_UPLOAD: Final[tuple[type[SkepError], ...]] = (
    TooLarge,
    Stalled,
    UnsafeArchive,
    UnsupportedArchive,
    StoreUnavailable,
)
#: With ``?prepare=true``, and with the header Accept what it prints as it comes.
_PREPARE: Final[tuple[type[SkepError], ...]] = (InstallFailed, NoWorker, NoSpace, NoSandbox)
_STREAM: Final = (
    "; or lines of JSON: {log} while dependencies install, then {status, function|error}"
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/registerRuntime",
        name="register_runtime",
        tag="runtimes",
        summary="Register a runtime, or a new revision of it",
        json=RegisterRuntime,
        answers={
            201: Answer("it is new", Runtime),
            200: Answer("it was there; a new revision if anything differs", Runtime),
        },
        errors=(TooLarge, Stalled, StoreUnavailable),
        example='--json \'{"image": "python:3.12", "path": "/ws", "run": "python3 test.py"}\'',
    ),
    Route(
        method="GET",
        path="/runtimes",
        name="list_runtimes",
        tag="runtimes",
        summary="The names of all runtimes",
        answers=ok("the names, sorted", list[str]),
    ),
    Route(
        method="GET",
        path="/runtimes/{runtime}",
        name="get_runtime",
        tag="runtimes",
        summary="One runtime",
        at=RuntimePath,
        answers=ok("its newest revision", Runtime),
        errors=(UnknownRuntime,),
        example_path="/runtimes/python:3.12",
    ),
    Route(
        method="DELETE",
        path="/runtimes/{runtime}",
        name="delete_runtime",
        tag="runtimes",
        summary="Remove a runtime that no function uses",
        at=RuntimePath,
        answers={204: Answer("it is gone")},
        errors=(UnknownRuntime, Conflict, StoreUnavailable),
        example_path="/runtimes/python:3.12",
    ),
    # Before the next one, whose runtime could be called so.
    Route(
        method="POST",
        path="/registerFunction/image/{function}",
        name="register_image",
        tag="functions",
        summary="Register an image as a function, or as a new revision of it",
        at=NewImagePath,
        json=ImageFunction,
        answers={
            201: Answer("it is new", FunctionShown),
            200: Answer("it was there; a new revision if anything differs", FunctionShown),
        },
        errors=(TooLarge, Stalled, StoreUnavailable),
        example='--json \'{"image": "debian:bookworm-slim", "timeout": 10}\'',
        example_path="/registerFunction/image/run",
    ),
    Route(
        method="POST",
        path="/registerFunction/{runtime}/{function}",
        name="register_function",
        tag="functions",
        summary="Upload an archive as a function, or as a new revision of it",
        at=NewFunctionPath,
        query=PrepareQuery,
        form=FunctionSettings,
        needs_module=True,
        answers={
            201: Answer("it is new", FunctionShown),
            200: Answer(
                f"it was there; a new revision if anything differs{_STREAM}",
                FunctionShown,
                (JSON, NDJSON),
            ),
        },
        errors=(UnknownRuntime, *_UPLOAD, *_PREPARE),
        example="-F module=@dice.tar.gz -F timeout=10",
        example_path="/registerFunction/python:3.12/dice",
    ),
    Route(
        method="GET",
        path="/functions",
        name="list_functions",
        tag="functions",
        summary="The names of all functions",
        answers=ok("the names, sorted", list[str]),
    ),
    Route(
        method="GET",
        path="/functions/{function}",
        name="get_function",
        tag="functions",
        summary="One function",
        at=FunctionPath,
        query=RevisionQuery,
        answers=ok("the newest revision, or the one asked for", FunctionShown),
        errors=(UnknownFunction,),
        example_path="/functions/dice?revision=1",
    ),
    Route(
        method="PATCH",
        path="/functions/{function}",
        name="update_function",
        tag="functions",
        summary="Change settings of a function, its package, or both",
        at=FunctionPath,
        query=PrepareQuery,
        json=FunctionPatch,
        form=FunctionPatch,
        answers={
            200: Answer(
                f"the new revision; the same one if nothing differs{_STREAM}",
                FunctionShown,
                (JSON, NDJSON),
            ),
        },
        errors=(UnknownFunction, UnknownRuntime, *_UPLOAD, *_PREPARE),
        example='--json \'{"timeout": 30, "cpu": null}\'',
        example_path="/functions/dice",
    ),
    Route(
        method="DELETE",
        path="/functions/{function}",
        name="delete_function",
        tag="functions",
        summary="Remove a function; accepted calls still run, unless cancel=true",
        at=FunctionPath,
        query=DeleteQuery,
        answers={204: Answer("it is gone")},
        errors=(UnknownFunction, StoreUnavailable),
        example_path="/functions/dice?cancel=true",
    ),
    Route(
        method="GET",
        path="/functions/{function}/revisions",
        name="list_revisions",
        tag="functions",
        summary="Every revision of a function",
        at=FunctionPath,
        answers=ok("the revisions, ascending", list[FunctionShown]),
        errors=(UnknownFunction,),
        example_path="/functions/dice/revisions",
    ),
    Route(
        method="GET",
        path="/functions/{function}/package",
        name="get_package",
        tag="functions",
        summary="Download the archive of a function",
        at=FunctionPath,
        query=RevisionQuery,
        answers={
            200: Answer("the bytes as they were uploaded", bytes, ("application/octet-stream",))
        },
        errors=(UnknownFunction,),
        example="--remote-header-name --remote-name",
        example_path="/functions/dice/package",
    ),
)
