"""Every endpoint, said once: what is not in this table is not served.

In the order of the documents. ``api.web`` routes by it, ``api.openapi`` describes it, and a
test compares it with docs/api.md.
"""

from __future__ import annotations

from typing import Any, Final

from api import answers
from api.asked import Answer, Route
from api.bodies import FunctionPatch, FunctionSettings, InvokeFunction, RegisterRuntime
from api.queries import (
    CallPath,
    CallsQuery,
    DeleteQuery,
    FunctionPath,
    NewFunctionPath,
    PrepareQuery,
    RevisionQuery,
    RuntimePath,
    WaitQuery,
)
from wire.errors import (
    Conflict,
    NoWorker,
    QueueFull,
    SkepError,
    Stalled,
    StoreUnavailable,
    TooLarge,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
    UnsafeArchive,
    UnsupportedArchive,
)
from wire.models import Call, Logs, Runtime

Names = list[str]
Calls = dict[str, Call]
_BINARY: Final = "application/octet-stream"
_ARCHIVE: Final[tuple[type[SkepError], ...]] = (
    TooLarge,
    Stalled,
    UnsafeArchive,
    UnsupportedArchive,
    StoreUnavailable,
)
_BODY: Final[tuple[type[SkepError], ...]] = (TooLarge, Stalled, StoreUnavailable)


def _ok(when: str, model: Any) -> dict[int, Answer]:
    return {200: Answer(when, model)}


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
        errors=_BODY,
        example='--json \'{"image": "python:3.12", "path": "/ws", "run": "python3 test.py"}\'',
    ),
    Route(
        method="GET",
        path="/runtimes",
        name="list_runtimes",
        tag="runtimes",
        summary="The names of all runtimes",
        answers=_ok("the names, sorted", Names),
    ),
    Route(
        method="GET",
        path="/runtimes/{runtime}",
        name="get_runtime",
        tag="runtimes",
        summary="One runtime",
        at=RuntimePath,
        answers=_ok("its newest revision", Runtime),
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
            201: Answer("it is new", answers.FunctionShown),
            200: Answer(
                "it was there; a new revision if anything differs", answers.FunctionShown
            ),
        },
        errors=(UnknownRuntime, *_ARCHIVE),
        example="-F module=@dice.tar.gz -F timeout=10",
        example_path="/registerFunction/python:3.12/dice",
    ),
    Route(
        method="GET",
        path="/functions",
        name="list_functions",
        tag="functions",
        summary="The names of all functions",
        answers=_ok("the names, sorted", Names),
    ),
    Route(
        method="GET",
        path="/functions/{function}",
        name="get_function",
        tag="functions",
        summary="One function",
        at=FunctionPath,
        query=RevisionQuery,
        answers=_ok("the newest revision, or the one asked for", answers.FunctionShown),
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
        answers=_ok("the new revision; the same one if nothing differs", answers.FunctionShown),
        errors=(UnknownFunction, UnknownRuntime, *_ARCHIVE),
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
        answers=_ok("the revisions, ascending", list[answers.FunctionShown]),
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
        answers={200: Answer("the bytes as they were uploaded", bytes, (_BINARY,))},
        errors=(UnknownFunction,),
        example="--remote-header-name --remote-name",
        example_path="/functions/dice/package",
    ),
    Route(
        method="POST",
        path="/invokeFunction",
        name="invoke_function",
        tag="calls",
        summary="Call a function; wait for its end, or not",
        query=WaitQuery,
        json=InvokeFunction,
        headers=("Prefer", "Idempotency-Key", "traceparent"),
        answers={
            200: Answer(
                "it ended in time (wait), however", Call, headers=("Idempotency-Replayed",)
            ),
            202: Answer(
                "it is accepted and durable",
                Call,
                headers=("Location", "Idempotency-Replayed"),
            ),
        },
        errors=(UnknownFunction, UnknownRuntime, Conflict, QueueFull, NoWorker, *_BODY),
        example='--json \'{"funcName": "dice", "params": {"roll": "4d6"}}\'',
        example_path="/invokeFunction?wait=10",
    ),
    Route(
        method="GET",
        path="/calls",
        name="list_calls",
        tag="calls",
        summary="A page of calls by number",
        query=CallsQuery,
        answers={200: Answer("the records, as c1, c2, …", Calls, headers=("Link",))},
        errors=(StoreUnavailable,),
        example_path="/calls?order=desc&limit=10&status=FAILED",
    ),
    Route(
        method="GET",
        path="/call/{num}",
        name="get_call",
        tag="calls",
        summary="One call; wait for its end, or not",
        at=CallPath,
        query=WaitQuery,
        headers=("Prefer",),
        answers=_ok("its record as it stands", Call),
        errors=(UnknownCall, QueueFull, StoreUnavailable),
        example_path="/call/1?wait=10",
    ),
    Route(
        method="DELETE",
        path="/call/{num}",
        name="cancel_call",
        tag="calls",
        summary="Cancel a call, in any state",
        at=CallPath,
        answers={
            200: Answer("it has ended", Call),
            202: Answer("it is being ended", Call, headers=("Location",)),
        },
        errors=(UnknownCall, StoreUnavailable),
        example_path="/call/1",
    ),
    Route(
        method="GET",
        path="/call/{num}/logs",
        name="get_logs",
        tag="calls",
        summary="What a call printed; JSON if that is what you Accept",
        at=CallPath,
        answers={200: Answer("the text, or JSON", Logs, ("text/plain", "application/json"))},
        errors=(UnknownCall, StoreUnavailable),
        example_path="/call/1/logs",
    ),
    Route(
        method="GET",
        path="/workers",
        name="list_workers",
        tag="platform",
        summary="The nodes: who is there, and who was",
        answers=_ok("the workers, by name", list[answers.WorkerShown]),
    ),
    Route(
        method="GET",
        path="/queues",
        name="list_queues",
        tag="platform",
        summary="How many calls wait and run, by function revision",
        answers=_ok("the functions that have any", list[answers.QueueShown]),
    ),
    Route(
        method="GET",
        path="/healthz",
        name="get_health",
        tag="platform",
        summary="Whether the api lives",
        is_open=True,
        answers=_ok("it does", answers.Health),
    ),
    Route(
        method="GET",
        path="/readyz",
        name="get_readiness",
        tag="platform",
        summary="Whether a call would find a worker",
        is_open=True,
        answers=_ok("it would", answers.Readiness),
        errors=(NoWorker,),
    ),
)

#: Paths that are answered without a token.
OPEN: Final = frozenset(route.path for route in ROUTES if route.is_open)


def _paths() -> str:
    by_method: dict[str, list[str]] = {}
    for route in ROUTES:
        by_method.setdefault(route.method, []).append(route.path)
    return "; ".join(f"{method} {', '.join(paths)}" for method, paths in by_method.items())


#: What to do when a path or method is none of these.
PATHS: Final = _paths()
