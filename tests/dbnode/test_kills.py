"""A DB node that is killed in heavy writes, and its server: twenty times, any moment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.dbnode.torture import STORES, torture

ROUNDS = 20


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", STORES)
def test_killed_in_heavy_writes_again_and_again(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    cluster = request.getfixturevalue("cluster") if kind == "postgresql" else None
    seed = random.randrange(1 << 32)
    print(f"python -m tests.dbnode.torture --store {kind} --rounds {ROUNDS} --seed {seed}")
    told = torture(kind, tmp_path, ROUNDS, seed, cluster)
    assert told["kills"] >= ROUNDS
    assert told["calls"] > ROUNDS
