"""What schemathesis is told beside the document: real archives, a function that is there."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.api.room import package

schemathesis.openapi.format("binary", st.sampled_from([package("print(1)"), package("2")]))


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """A form cannot say in its schema that entry and run exclude each other."""
    return not (isinstance(body, dict) and {"entry", "run"} <= set(body))


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Call what is there, most of the time."""
    if isinstance(body, dict) and len(str(body.get("funcName", ""))) > 2:
        return {**body, "funcName": "dice"}
    return body
