"""The cache of a node on a real disk, with an installer by script that is counted."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import soon
from tests.packing import zipped
from wire.jobs import Built
from wire.models import Fault, Function, Package, Reason, Runtime, Spec
from worker.bundles import Bundles
from worker.cache import Cache
from worker.failures import NoBundle
from worker.fetcher import Fetcher
from worker.folder import NodeFolder
from worker.tape import OnText

PIP = "pip3 install -r requirements.txt"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
FAILED = Reason(code="install_failed", message="no such thing")


def tiny(place: Path) -> None:
    """Install what most tests want."""
    (place / ".packages/bin").mkdir(parents=True)
    (place / ".packages/tiny.py").write_text("VALUE = 42\n")
    (place / ".packages/bin/tiny").write_text("#!/bin/sh\n")
    (place / ".packages/link.py").symlink_to("tiny.py")


class Node:
    """A node's folder and its bundles; ``fill`` is what the installer does."""

    def __init__(self, folder: NodeFolder, cache_bytes: int, driver: str) -> None:
        self.folder = folder
        self.installed: list[Path] = []
        self.fill: Callable[[Path], None] = tiny
        self.gate = asyncio.Event()
        self.gate.set()
        self.reason: Reason | None = None
        self.error: OSError | None = None
        fetcher, env = Fetcher(lambda *_: None), {"PIP_RETRIES": "0"}
        self.bundles = Bundles(folder, fetcher, self._build, cache_bytes, env, driver)

    async def _build(self, _: Spec, place: Path, on_text: OnText) -> Built:
        self.installed.append(place)
        on_text("begins\n")
        await self.gate.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        if self.reason is not None:
            return Built(reason=self.reason, fault=Fault.FUNCTION, log="begins\n")
        self.fill(place)
        on_text("ends\n")
        return Built(reason=None)

    def spec(self, name: str, requirements: str = "tiny\n", dependencies: str = PIP) -> Spec:
        """Return a function whose package holds its name, with its package at hand."""
        data = zipped({"test.py": name, "requirements.txt": requirements})
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder.packages / sha256).write_bytes(data)
        package = Package(sha256=sha256, size=len(data), originalname="p.zip")
        return Spec(
            function=Function(function_name=name, runtime_name="r", package=package),
            runtime=Runtime(name="r", image="r", path="/ws", dependencies=dependencies),
        )


@contextmanager
def node(data: Path, cache_bytes: int = 1 << 30, driver: str = "process") -> Iterator[Node]:
    folder = NodeFolder(data, "n", "boot1234")
    folder.open()
    try:
        yield Node(folder, cache_bytes, driver)
    finally:
        folder.close()


def whole(node: Node) -> list[Path]:
    return sorted(node.folder.bundles.iterdir())


async def test_functions_with_the_same_requirements_install_once(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        one = await n.bundles.acquire("a", n.spec("one"))
        two = await n.bundles.acquire("b", n.spec("two"))
        assert len(n.installed) == 1
        assert n.installed[0] not in (one, two)
        assert (one / "test.py").read_text() == "one"
        assert (two / "test.py").read_text() == "two"
        for bundle in (one, two):
            assert (bundle / ".packages/bin/tiny").is_file()
            assert (bundle / ".packages/link.py").read_text() == "VALUE = 42\n"
            assert sorted(p.name for p in bundle.iterdir()) == [
                ".packages",
                "requirements.txt",
                "test.py",
            ]
        assert (one / ".packages/tiny.py").samefile(two / ".packages/tiny.py")
        # The layer knows nothing of either function.
        assert not (n.installed[0] / "test.py").exists()
        await n.bundles.close()


async def test_what_another_image_installed_is_installed_once_more_for_all(
    tmp_path: Path,
) -> None:
    with node(tmp_path) as n:
        specs = [n.spec("one"), n.spec("two"), n.spec("other", "more\n")]
        old = [await n.bundles.acquire(f"old{i}", spec) for i, spec in enumerate(specs)]
        assert len(n.installed) == 2
        for _ in range(2):
            n.bundles.outdated(old[0])
        new = [await n.bundles.acquire(f"new{i}", spec) for i, spec in enumerate(specs)]
        # Both that had the layer have a new one; whoever uses an old one still can.
        assert len(n.installed) == 3
        assert new[0] not in old and new[1] not in old and new[2] == old[2]
        first, second = (bundle / ".packages/tiny.py" for bundle in new[:2])
        assert first.samefile(second) and first.samefile(n.installed[2] / ".packages/tiny.py")
        assert all((bundle / ".packages/tiny.py").is_file() for bundle in old)
        await n.bundles.close()
    with node(tmp_path) as n:
        # What was hidden is gone at the next start: two functions, and their layers, stay.
        assert len(whole(n)) == 5
        await n.bundles.close()


async def test_what_processes_installed_is_no_containers(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        one, plain = n.spec("one"), n.spec("plain", dependencies="")
        places = [await n.bundles.acquire(spec.function.function_name, spec)
                  for spec in (one, plain)]  # fmt: skip
        await n.bundles.close()
    with node(tmp_path, driver="docker") as n:
        assert await n.bundles.acquire("a", one) != places[0]
        assert len(n.installed) == 1
        # What nothing was installed for is the same to all.
        assert await n.bundles.acquire("b", plain) == places[1]
        await n.bundles.close()


@pytest.mark.parametrize(
    ("requirements", "dependencies"),
    [
        ("other\n", PIP),
        ("tiny\n", "pip3 install -q -r requirements.txt"),
        ("tiny\n", "pip3 install -r requirements.txt; true"),
    ],
)
async def test_other_requirements_or_commands_share_nothing(
    tmp_path: Path, requirements: str, dependencies: str
) -> None:
    with node(tmp_path) as n:
        await n.bundles.acquire("a", n.spec("one"))
        await n.bundles.acquire("b", n.spec("two", requirements, dependencies))
        assert len(n.installed) == 2
        await n.bundles.close()


async def test_what_may_need_the_package_is_installed_in_the_bundle(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        bundle = await n.bundles.acquire("a", n.spec("one", "./lib\n"))
        assert n.installed == [bundle]
        await n.bundles.close()


async def test_two_at_once_install_once_and_both_hear_it_from_the_beginning(
    tmp_path: Path,
) -> None:
    with node(tmp_path) as n:
        n.gate.clear()
        heard: dict[str, list[str]] = {"a": [], "b": [], "c": []}
        tasks = []
        for user, spec in (("a", n.spec("one")), ("b", n.spec("two")), ("c", n.spec("one"))):
            work = n.bundles.acquire(user, spec, heard[user].append)
            tasks.append(asyncio.create_task(work))
            await soon(partial(bool, heard[user]), what="it begins")
        n.gate.set()
        await asyncio.gather(*tasks)
        assert len(n.installed) == 1
        assert {"".join(texts) for texts in heard.values()} == {"begins\nends\n"}
        await n.bundles.close()


async def test_one_who_leaves_ends_it_for_nobody(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        n.gate.clear()
        heard: list[str] = []
        leaves = asyncio.create_task(n.bundles.acquire("a", n.spec("one"), heard.append))
        await soon(lambda: heard)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        n.gate.set()
        await n.bundles.acquire("b", n.spec("one"))
        assert (len(n.installed), heard) == (1, ["begins\n"])
        await n.bundles.close()


async def test_a_failed_set_poisons_nothing(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        n.reason = FAILED
        n.gate.clear()
        specs = (n.spec("one"), n.spec("two"))
        tasks = [asyncio.create_task(n.bundles.acquire(s.key, s)) for s in specs]
        await soon(lambda: n.installed)
        n.gate.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, NoBundle)
            assert (outcome.reason, outcome.fault) == (FAILED, Fault.FUNCTION)
            assert outcome.log == "begins\n"
        assert whole(n) == []
        n.reason = None
        bundle = await n.bundles.acquire("c", n.spec("one"))
        assert (bundle / ".packages/tiny.py").exists()
        await n.bundles.close()


async def test_links_that_an_installer_made_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    with node(tmp_path) as n:

        def trap(place: Path) -> None:
            (place / ".packages").symlink_to(secret)

        n.fill = trap
        one = await n.bundles.acquire("a", n.spec("one"))
        # As it would be without a layer: whoever looks sees his own file system.
        assert (one / ".packages").readlink() == secret
        assert not list(one.rglob("key"))

        def inner(place: Path) -> None:
            (place / ".packages").mkdir()
            (place / ".packages/folder").symlink_to(secret)
            (place / ".packages/file").symlink_to(secret / "key")

        n.fill = inner
        two = await n.bundles.acquire("b", n.spec("two", "other\n"))
        assert (two / ".packages/folder").readlink() == secret
        assert (two / ".packages/file").readlink() == secret / "key"
        await n.bundles.close()


async def test_nothing_to_install_is_a_layer_too(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        n.fill = lambda _: None
        one = await n.bundles.acquire("a", n.spec("one", "# nothing\n"))
        assert not (one / ".packages").exists()
        await n.bundles.acquire("b", n.spec("two", "# nothing\n"))
        assert len(n.installed) == 1
        await n.bundles.close()


async def test_the_next_life_finds_layers_and_bundles(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        one = await n.bundles.acquire("a", n.spec("one"))
        await n.bundles.close()
    with node(tmp_path) as n:
        assert await n.bundles.acquire("a", n.spec("one")) == one
        await n.bundles.acquire("b", n.spec("three"))
        assert n.installed == []
        assert len(whole(n)) == 3
        await n.bundles.close()


async def settled(n: Node, wanted: Callable[[], bool]) -> None:
    await soon(wanted)
    await n.bundles.close()


async def test_evicting_one_bundle_leaves_layer_and_other_whole(tmp_path: Path) -> None:
    with node(tmp_path, cache_bytes=1) as n:
        one = await n.bundles.acquire("a", n.spec("one"))
        two = await n.bundles.acquire("b", n.spec("two"))
        n.bundles.release("a")
        await soon(lambda: not one.exists())
        # The layer is still in use, by way of the other bundle.
        assert n.installed[0].exists()
        assert (two / ".packages/tiny.py").read_text() == "VALUE = 42\n"
        await n.bundles.acquire("c", n.spec("three"))
        assert len(n.installed) == 1
        n.bundles.release("b")
        n.bundles.release("c")
        await settled(n, lambda: whole(n) == [])
        assert not list(n.folder.whole.iterdir())


async def test_a_layer_that_vanished_breaks_no_bundle_and_is_made_anew(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        one = await n.bundles.acquire("a", n.spec("one"))
        (n.folder.whole / n.installed[0].name).unlink()
        await n.bundles.close()
    with node(tmp_path) as n:
        # Swept as half-made, for nothing says that it is whole.
        assert (one / ".packages/tiny.py").read_text() == "VALUE = 42\n"
        assert await n.bundles.acquire("a", n.spec("one")) == one
        await n.bundles.acquire("b", n.spec("two"))
        assert len(n.installed) == 1
        await n.bundles.close()


async def test_a_full_disk_evicts_once_and_is_tried_once_more(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        old = await n.bundles.acquire("a", n.spec("one", "old\n"))
        n.bundles.release("a")
        n.error = OSError(errno.ENOSPC, "full")
        two = await n.bundles.acquire("b", n.spec("two"))
        assert not old.exists()
        assert (two / ".packages/tiny.py").exists()
        assert len(n.installed) == 3
        await n.bundles.close()


async def test_a_disk_that_stays_full_is_the_nodes_fault(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        n.reason = Reason(code="no_space", message="full")
        with pytest.raises(NoBundle) as caught:
            await n.bundles.acquire("a", n.spec("one"))
        assert caught.value.reason.code == "no_space"
        assert len(n.installed) == 2
        assert whole(n) == []
        await n.bundles.close()


async def test_many_layers_at_once_wait_for_no_place_to_build(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        specs = [n.spec(f"f{i}", f"r{i % 3}\n") for i in range(9)]
        await asyncio.gather(*(n.bundles.acquire(s.key, s) for s in specs))
        assert len(n.installed) == 3
        await n.bundles.close()


async def test_a_marker_that_says_nothing_is_none(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        await n.bundles.acquire("a", n.spec("one"))
        for marker in n.folder.whole.iterdir():
            marker.write_bytes(b"")
        await n.bundles.close()
    with node(tmp_path) as n:
        bundle = await n.bundles.acquire("a", n.spec("one"))
        assert (bundle / "test.py").read_text() == "one"
        assert len(n.installed) == 1
        await n.bundles.close()


async def test_after_a_power_cut_only_what_had_reached_the_disk_is_trusted(
    tmp_path: Path,
) -> None:
    with node(tmp_path) as n:
        await n.bundles.acquire("a", n.spec("one"))
        cache = Cache(n.folder, 1 << 30, lambda _: None)
        await cache.settle(0)
        settled = set(n.folder.whole.iterdir())
        assert len(settled) == 2
        await n.bundles.acquire("b", n.spec("two", "other\n"))
        for marker in n.folder.whole.iterdir():
            said = marker.read_text()
            assert (BOOT in said) is (marker not in settled)
            # The machine was started again since.
            marker.write_text(said.replace(BOOT, "another"))
        await n.bundles.close()
    with node(tmp_path) as n:
        await n.bundles.acquire("a", n.spec("one"))
        assert n.installed == []
        bundle = await n.bundles.acquire("b", n.spec("two", "other\n"))
        assert len(n.installed) == 1
        assert (bundle / "test.py").read_text() == "two"
        await n.bundles.close()


async def test_whatever_goes_wrong_whoever_asked_is_answered(tmp_path: Path) -> None:
    with node(tmp_path) as n:
        (n.folder.whole / "stray").write_bytes(b"what nobody foresaw")
        with pytest.raises(NoBundle) as caught:
            await n.bundles.acquire("a", n.spec("one"))
        assert (caught.value.fault, caught.value.reason.code) == (Fault.NODE, "no_sandbox")
        await n.bundles.close()
