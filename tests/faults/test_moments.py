"""The same at the moments at which it hurts most, which the wires see pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.plan import MOMENTS
from tests.faults.test_single import suffer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_every_call_ends_once_whenever_something_dies(tmp_path: Path) -> None:
    suffer(tmp_path / "data", list(MOMENTS))
