"""The endpoints of calls."""

from __future__ import annotations

from typing import Final

from api.asked import Answer, Route, ok
from api.bodies import InvokeFunction
from api.queries import CallPath, CallsQuery, WaitQuery
from wire.errors import (
    Conflict,
    NoWorker,
    QueueFull,
    Stalled,
    StoreUnavailable,
    TooLarge,
    UnknownCall,
    UnknownFunction,
    UnknownRuntime,
)
from wire.models import Call, Logs

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/invokeFunction",
        name="invoke_function",
        tag="calls",
        summary="Call a function; wait for its end, or not",
        query=WaitQuery,
        json=InvokeFunction,
        headers=("Prefer", "Idempotency-Key", "traceparent", "tracestate"),
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
        errors=(
            UnknownFunction,
            UnknownRuntime,
            Conflict,
            QueueFull,
            NoWorker,
            TooLarge,
            Stalled,
            StoreUnavailable,
        ),
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
        answers={200: Answer("the records, as c1, c2, …", dict[str, Call], headers=("Link",))},
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
        answers=ok("its record as it stands", Call),
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
)
