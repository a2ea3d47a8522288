"""What this host can confine, for the tests of agents in real sandboxes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.miniworker.rig import open_folder, probe


@pytest.fixture(scope="session")
def strongest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings that a worker would use here."""
    return probe(open_folder(tmp_path_factory.mktemp("best")), "auto")
