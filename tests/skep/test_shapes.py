"""The typed dictionaries have the keys that the models of the server have."""

from __future__ import annotations

from typing import Any, NotRequired, get_origin, get_type_hints, is_typeddict

import msgspec
import pytest

import skep
from api import answers
from api.bodies import FunctionPatch, FunctionSettings, InvokeFunction
from skep import records
from wire import models
from wire.records import ListCalls

PAIRS = [
    (records.Call, models.Call, set()),
    (records.Attempt, models.Attempt, set()),
    (records.Reason, models.Reason, set()),
    (records.Package, models.Package, set()),
    (records.Logs, models.Logs, set()),
    (records.Runtime, models.Runtime, set()),
    (records.Function, answers.FunctionShown, set()),
    (records.Worker, answers.WorkerShown, set()),
    (records.Queue, answers.QueueShown, set()),
    (records.Health, answers.Health, set()),
    (records.FunctionSettings, FunctionSettings, set()),
    (records.FunctionChanges, FunctionPatch, set()),
    (records.CallSettings, InvokeFunction, {"funcName", "params"}),
    (records.CallQuery, ListCalls, {"project"}),
]


def outside(model: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(model)}


@pytest.mark.parametrize(
    ("shape", "model", "not_said"), PAIRS, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_shape_has_the_keys_of_its_model(shape: Any, model: Any, not_said: set[str]) -> None:
    wanted = outside(model) - not_said
    hints = get_type_hints(shape, include_extras=True)
    # What is not required may come from a newer server.
    needed = {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}
    assert set(hints) >= wanted
    assert needed <= wanted


def test_terminal_statuses_are_those_of_the_server() -> None:
    assert {status.value for status in models.Status if status.is_terminal} == skep.TERMINAL


def test_every_shape_is_exported() -> None:
    shapes = {name for name, value in vars(records).items() if is_typeddict(value)}
    assert shapes <= set(skep.__all__)
