"""The endpoint of many calls at once."""

from __future__ import annotations

from typing import Final

from api.answers import BatchLine
from api.asked import NDJSON, Answer, Route
from api.bodies import InvokeLine
from api.queries import WaitQuery

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/invokeFunctions",
        name="invoke_functions",
        tag="calls",
        summary="Make many calls, one a line; a line for each as it is accepted, or has ended",
        query=WaitQuery,
        lines=InvokeLine,
        headers=("Prefer", "traceparent", "tracestate"),
        answers={200: Answer("a line for each line, in any order", BatchLine, (NDJSON,))},
        example=(
            "-H 'Content-Type: application/x-ndjson' "
            '--data-binary \'{"funcName": "dice", "params": {"roll": "4d6"}}\''
        ),
        example_path="/invokeFunctions?wait=10",
    ),
)
