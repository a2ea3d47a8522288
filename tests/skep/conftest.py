"""A scripted server, and each test with both clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.skep.both import Clock, made
from tests.skep.scripted import Script, scripted


@pytest.fixture
def server() -> Iterator[Script]:
    """A server that does what the test says."""
    with scripted() as script:
        yield script


@pytest.fixture
def clock() -> Clock:
    """Time that passes only when the client sleeps."""
    return Clock()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the clients."""
    return str(request.param)


@pytest.fixture
def client(kind: str, server: Script, clock: Clock) -> Iterator[Any]:
    """A client of the server, whose pauses take no time."""
    with made(kind, server.url, clock=clock, token="s3cret") as made_client:
        yield made_client
