"""Rigs by level of confinement; a level that this host does not have is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.miniworker.engine_proxy import EngineProxy
from tests.miniworker.rig import LEVELS, Rig, open_folder, probe

#: The first test that needs it may have to make the image.
CONTAINER = pytest.param("container", marks=[pytest.mark.docker, pytest.mark.timeout(400)])


@pytest.fixture(scope="session", params=[*LEVELS, CONTAINER])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the probe finds for each level, and for the engine."""
    return probe(open_folder(tmp_path_factory.mktemp("tools")), request.param)


@pytest.fixture(scope="module")
def shared(found: dict[str, Any]) -> Iterator[Rig]:
    """A zygote for the driver, for all tests of a module."""
    with Rig(found["settings"], driver=found["driver"]) as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    """The shared zygote, with miniworkers of this test alone."""
    yield shared
    shared.clear()
    shared.check()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    with EngineProxy(tmp_path / "engine.sock") as proxy:
        yield proxy


@pytest.fixture(scope="session")
def strongest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings that a worker would use here."""
    return probe(open_folder(tmp_path_factory.mktemp("best")), "auto")
