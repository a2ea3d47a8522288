"""The PostgreSQL server that the tests of this room share, and stores by their kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.postgres import Server

#: Makes the name of a new, empty store of a kind.
NewStore = Callable[[str], str]


@pytest.fixture(scope="package")
def cluster() -> Iterator[Path]:
    """A PostgreSQL cluster to copy."""
    with postgres.template() as data:
        yield data


@pytest.fixture(scope="package")
def shared_server(cluster: Path) -> Iterator[Server]:
    """A PostgreSQL server that runs while the tests of this room do: nobody stops it."""
    with postgres.server(cluster) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def server_before_tests(request: pytest.FixtureRequest) -> None:
    """Start the shared server before the first test that needs it: it outlives each."""
    kinds = (
        item.callspec.params.get("kind")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    )
    if "postgresql" in kinds and postgres.programs() is not None:
        request.getfixturevalue("shared_server")


@pytest.fixture
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Make the name of a new, empty store of a kind."""

    def name(kind: str) -> str:
        if kind == "postgresql":
            server: Server = request.getfixturevalue("shared_server")
            return server.url(server.database())
        return {
            "memory": "memory",
            "tinydb": f"tinydb:{tmp_path}/db",
            "sqlite": f"sqlite:///{tmp_path}/db.sqlite",
        }[kind]

    return name
