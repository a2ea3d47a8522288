"""A power cut after any sync: what was promised of packages, names and exports is there.

The store has a disk of its own for this (``tests/dbnode/test_crashes.py``), bundles have
markers that name the boot of the machine (``tests/worker/test_bundles.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.packages import Packages
from dbnode.opening import opened
from dbnode.tool import target
from tests.api.room import package
from tests.powercut import recorded
from wire.models import Package
from worker.folder import NodeFolder


async def pieces() -> AsyncIterator[bytes]:
    yield package()


async def keep(folder: Path) -> Package:
    packages = Packages(folder, 1 << 20, lambda _: True)
    async with packages.uploading() as uploading:
        await uploading.receive(pieces(), "python.tar.gz")
        await uploading.keep()
        uploading.is_unsure = True
    assert uploading.package is not None
    return uploading.package


async def test_a_package_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as cuts:
        kept = await keep(root / "data/packages")
    for after in range(len(cuts.states)):
        left = cuts.left(tmp_path / f"left{after}", after) / "data/packages" / kept.sha256
        assert not left.exists() or left.read_bytes() == package()
    assert left.exists()


def test_a_node_has_no_name_or_the_one_that_it_said(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as cuts:
        node = NodeFolder(root / "data", "node1", "boot1")
        node.open()
        node.close()
    for after in range(len(cuts.states)):
        left = cuts.left(tmp_path / f"left{after}", after)
        again = NodeFolder(left / "data", "node1", "boot2")
        again.open()
        again.close()
        assert len(again.node_id) == len(again.installation) == 32
    assert (again.node_id, again.installation) == (node.node_id, node.installation)


@pytest.mark.parametrize("before", [b"", b"what was exported before"])
def test_an_export_is_whole_or_the_one_before(tmp_path: Path, before: bytes) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    file = root / "export.jsonl"
    if before:
        file.write_bytes(before)
    with recorded(root) as cuts, target(str(file)) as out:
        out.write(b"all calls")
    for after in range(len(cuts.states)):
        left = cuts.left(tmp_path / f"left{after}", after) / file.name
        assert (left.read_bytes() if left.exists() else b"") in (before, b"all calls")
    assert left.read_bytes() == b"all calls"


@pytest.mark.parametrize("kind", ["tinydb", "sqlite"])
def test_the_folder_of_a_store_outlives_what_is_kept_in_it(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root) as cuts, opened(kind, data=root / "deep/data"):
        pass
    left = cuts.left(tmp_path / "left")
    made = {"tinydb": "deep/data/db/catalogue.json", "sqlite": "deep/data/skep.sqlite"}
    assert (left / made[kind]).exists()
