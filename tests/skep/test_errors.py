"""Errors travel: by pickle, by copy, with all they know."""

from __future__ import annotations

import copy
import pickle

import pytest

import skep
from skep import CallFailed, NotReachable, SkepError, StillRunning
from skep.errors import from_answer
from tests.skep.scripted import call, failed

ALL = [
    SkepError("message", code="odd", hint="hint", status=500, retry_after=2.0),
    NotReachable("message", hint="hint"),
    CallFailed(failed()),
    StillRunning(call("RUNNING"), 3),
    StillRunning(call("RUNNING"), None),
    from_answer(429, b'{"error": {"code": "queue_full", "message": "m", "hint": "h"}}', 1.0),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling_and_copying(error: SkepError, protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert again.as_dict() == error.as_dict()


def test_every_error_is_a_skep_error_and_exported() -> None:
    # The command line has some of its own, where it is imported too.
    kinds = [kind for kind in SkepError.__subclasses__() if kind.__module__.startswith("skep.")]
    assert {kind.__name__ for kind in kinds} <= set(skep.__all__)
    assert len(kinds) > 5
    assert issubclass(StillRunning, TimeoutError)
