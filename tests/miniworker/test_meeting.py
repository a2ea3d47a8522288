"""How an agent is waited for, on real descriptors."""

from __future__ import annotations

import os
import time

import pytest

from miniworker.meeting import await_readable
from miniworker.sandbox import NoSandbox


def test_the_last_words_of_an_agent_that_ended_are_heard() -> None:
    hears, says = os.pipe()

    def ends() -> bool:
        """Say something in the moment between the look for words and the look for its end."""
        os.write(says, b"broken")
        return True

    try:
        await_readable(hears, time.monotonic() + 20, ends)
        assert os.read(hears, 100) == b"broken"
    finally:
        os.close(hears)
        os.close(says)


@pytest.mark.parametrize(("has_ended", "says"), [(True, "ended"), (False, "not ready in time")])
def test_who_says_nothing_is_waited_for_until_its_end_or_the_limit(
    has_ended: bool, says: str
) -> None:
    hears, silent = os.pipe()
    try:
        with pytest.raises(NoSandbox, match=says):
            await_readable(hears, time.monotonic() + 0.2, lambda: has_ended)
    finally:
        os.close(hears)
        os.close(silent)
