"""What schemathesis is told beside the document: real archives, a function that is there."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.api.room import package

schemathesis.openapi.format("binary", st.sampled_from([package("print(1)"), package("2")]))


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    """Send a text as it is."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


NOT_OF_ALL = {
    "image", "bakedImage", "entry", "run", "isolation", "preload", "minWarm", "maxWarm", "idle",
    "module",
}  # fmt: skip


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Mend what a schema cannot say, and call what is there, most of the time."""
    body = case.body
    if not isinstance(body, dict):
        return
    if case.media_type == "multipart/form-data" and body.get("entry") and body.get("run"):
        # As JSON they exclude each other by schema; of a form it cannot be said.
        del body["run"]
    if "contract" not in body:
        # Refused for what is no server: no schema knows which function is one.
        for name in ("concurrency", "port"):
            body.pop(name, None)
    if case.operation.label == "PATCH /functions/{function}" and NOT_OF_ALL & body.keys():
        # What only code has is refused for a function that is an image: no schema knows which.
        body.pop("image", None)
        case.path_parameters["function"] = "dice"
    if case.operation.label == "POST /invokeFunction" and len(str(body.get("funcName"))) > 2:
        body["funcName"] = "dice"
