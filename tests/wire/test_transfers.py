"""How far an image is, of what an engine says about its layers."""

from __future__ import annotations

from typing import Any

import pytest

from wire.images import registry_of
from wire.transfers import Transfer


def line(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total else {}
    return {"id": layer, "status": status, "progressDetail": detail}


def test_one_number_of_all_layers_that_never_falls_while_these_are_known() -> None:
    transfer = Transfer()
    said = [
        (line("1", "Pulling from x"), 0),
        (line("a", "Already exists"), 0),
        (line("b", "Downloading", 25, 100), 25),
        (line("c", "Downloading", 0, 100), 12),
        (line("b", "Download complete"), 50),
        (line("b", "Extracting", 1, 50), 50),
        (line("c", "Downloading", 100, 100), 100),
        (line("c", "Pull complete"), 100),
        ({"status": "Digest: sha256:0"}, 100),
    ]
    for one, percent in said:
        before = transfer.percent
        assert transfer.take(one) is (percent != before)
        assert transfer.percent == percent
    assert not transfer.error


def test_the_first_complaint_is_kept() -> None:
    transfer = Transfer()
    transfer.take({"error": "no", "errorDetail": {"message": "no"}})
    transfer.take({"error": "later"})
    assert transfer.error == "no"
    # A push may not know a total, or send more than it said.
    assert transfer.take(line("a", "Pushing", 300, 200))
    assert transfer.percent == 100


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("pythonruntime", ""), ("team/python:1", ""), ("localhost/python", "localhost"),
        ("host:5000/python:1", "host:5000"), ("ghcr.io/a/b@sha256:0", "ghcr.io"), ("a.b", ""),
        ("python:3.12", ""),
    ],
)  # fmt: skip
def test_a_registry_is_what_docker_takes_for_one(image: str, registry: str) -> None:
    assert registry_of(image) == registry
