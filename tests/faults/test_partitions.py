"""Wires that delay, lose and are cut, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.test_single import suffer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_every_call_ends_once_whatever_is_lost_or_late(tmp_path: Path) -> None:
    suffer(
        tmp_path / "data",
        [
            "delay db", "lose node", "lose db", "lose pub", "cut db",
            "cut pub", "cut node", "delay node beyond the limit",
        ],
    )  # fmt: skip
