"""Bundles made, once each however many sandboxes wait for them.

A bundle is made in its final place (what installers write may name it): the package unpacked,
then the dependencies installed in it, or put there from a layer that several bundles share.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from wire import archive
from wire.jobs import Built
from wire.models import Package, Spec
from wire.process import spawn
from wire.reach import what_is_found
from worker import trees
from worker.actions import Step
from worker.cache import Cache, Marker
from worker.failures import NO_SPACE, NoBundle, explain, unforeseen
from worker.fetcher import Fetcher
from worker.flights import Flights
from worker.folder import NodeFolder
from worker.layers import Layer, layer_of
from worker.packages import Packages
from worker.tape import OnText, Tape

log = logging.getLogger(__name__)

PARALLEL: Final = 2
#: Where pip puts what it installs, in the runtime's path (the miniworker's PIP_TARGET).
INSTALLED: Final = ".packages"

Build = Callable[[Spec, Path, OnText], Awaitable[Built]]


class Bundles:
    """All bundles of one node, whole or being made."""

    def __init__(
        self,
        folder: NodeFolder,
        fetcher: Fetcher,
        build: Build,
        cache_bytes: int,
        build_env: Mapping[str, str],
        driver: str = "process",
    ) -> None:
        """``driver`` is of the sandboxes in which dependencies are installed."""
        self._folder = folder
        self._driver = driver
        self._build = build
        self._build_env = build_env
        self._packages = Packages(folder, fetcher)
        #: What making each bundle took, of those made in this life.
        self._steps: dict[str, list[Step]] = {}
        self._cache = Cache(folder, cache_bytes, self._evicted)
        self._flights: Flights[Path] = Flights()
        #: What the installers of flights print, by key.
        self._tapes: dict[str, Tape] = {}
        self._building = asyncio.Semaphore(PARALLEL)
        #: Bundles asked for that were there or not.
        self.hits = self.misses = 0

    def __repr__(self) -> str:
        return f"<Bundles: {self._cache!r}, {len(self._flights)} being made>"

    async def acquire(self, user: str, spec: Spec, on_text: OnText | None = None) -> Path:
        """Return the bundle of this revision, made if need be; ``user`` counts as using it.

        ``on_text`` hears what its installer prints, from the beginning.

        Raises:
            NoBundle: it cannot be had.
        """
        key = bundle_key(spec, self._build_env, self._driver)
        self._cache.use(user, key)
        is_there = self._cache.find(key) is not None
        self.hits += is_there
        self.misses += not is_there
        try:
            return await self._get(key, lambda tape: self._fly(key, spec, tape), on_text)
        except NoBundle:
            raise
        except Exception as error:
            # Whoever asked has to be answered, or its calls would wait for a bundle for ever.
            log.exception("a bundle failed for a reason that nobody foresaw")
            raise unforeseen(error) from error

    def steps(self, spec: Spec) -> tuple[Step, ...]:
        """Return what making the bundle of a revision took; nothing if it was there."""
        return tuple(self._steps.get(bundle_key(spec, self._build_env, self._driver), ()))

    @property
    def evicted(self) -> int:
        """Return how many things were removed to make room."""
        return self._cache.evicted

    def release(self, user: str) -> None:
        """Count a user no more."""
        if self._cache.release(user):
            spawn(self._cache.trim(), "trimming the cache")

    def outdated(self, bundle: Path) -> None:
        """Give a bundle, and the layer in it, to nobody any more; who uses it may go on."""
        self._cache.forget(bundle.name)

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()
        await self._packages.close()

    def _evicted(self, key: str) -> None:
        self._steps.pop(key, None)

    async def _get(
        self, key: str, make: Callable[[Tape], Awaitable[Path]], on_text: OnText | None
    ) -> Path:
        """Return what is of a key, or make it with whoever else wants it."""
        found = self._cache.find(key)
        if found is not None:
            return found
        tape = self._tapes.setdefault(key, Tape())
        if on_text is not None:
            tape.listen(on_text)
        try:
            return await self._flights.join(key, lambda: self._taped(key, make))
        finally:
            if on_text is not None:
                tape.leave(on_text)

    async def _taped(self, key: str, make: Callable[[Tape], Awaitable[Path]]) -> Path:
        try:
            return await make(self._tapes[key])
        finally:
            del self._tapes[key]

    async def _fly(self, key: str, spec: Spec, tape: Tape) -> Path:
        package = spec.function.package
        # Kept until the end: making room must not take what is needed to try again.
        with self._cache.reading(package.sha256 if package else ""):
            async with self._building:
                path = await self._make_or_clear(key, spec, tape)
        await self._cache.trim()
        return path

    async def _make_or_clear(self, key: str, spec: Spec, tape: Tape) -> Path:
        """Make it; when the disk is full, make room once and try once more."""
        try:
            return await self._make(key, lambda place: self._fill(place, spec, tape))
        except NoBundle as error:
            if error.reason.code != NO_SPACE:
                raise
        log.warning("the disk is full: evicting what is not in use")
        await self._cache.trim(0)
        return await self._make(key, lambda place: self._fill(place, spec, tape))

    async def _make(self, key: str, fill: Callable[[Path], Awaitable[Marker]]) -> Path:
        name = secrets.token_hex(16)
        place = self._folder.bundles / name
        try:
            marker = await fill(place)
            self._cache.keep(name, msgspec.structs.replace(marker, key=key))
            spawn(self._cache.settle(), "settling the cache")
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))
            raise explain(error) from error
        return place

    async def _fill(self, place: Path, spec: Spec, tape: Tape) -> Marker:
        package = spec.function.package
        steps = self._steps[bundle_key(spec, self._build_env, self._driver)] = []
        if package is None:
            await asyncio.to_thread(place.mkdir)
        else:
            with _noted(steps, "fetch"):
                await self._unpack(package, place)
        with _noted(steps, "install"):
            return await self._fill_installed(place, spec, tape)

    async def _fill_installed(self, place: Path, spec: Spec, tape: Tape) -> Marker:
        layer = await asyncio.to_thread(self._layer_of, place, spec)
        if layer is None:
            await self._install(place, spec, tape)
            return Marker("", await asyncio.to_thread(trees.tree_bytes, place))
        size = await asyncio.to_thread(trees.tree_bytes, place)
        key = layer_key(layer, spec, self._build_env, self._driver)
        await self._put_layer(key, layer, place, spec, tape)
        return Marker("", size, key)

    async def _unpack(self, package: Package, place: Path) -> None:
        file = await self._packages.file(package)
        await asyncio.to_thread(archive.unpack, file, place)

    async def _install(self, place: Path, spec: Spec, tape: Tape) -> None:
        if not spec.runtime.dependencies:
            return
        built = await self._build(spec, place, tape.write)
        if built.reason is not None:
            raise NoBundle(built.fault, built.reason, built.log)

    # --- layers ---

    def _layer_of(self, place: Path, spec: Spec) -> Layer | None:
        if (place / INSTALLED).is_symlink() or (place / INSTALLED).exists():
            return None
        env = {**self._build_env, **spec.runtime.env}
        return layer_of(
            spec.runtime.dependencies,
            spec.runtime.path,
            env,
            lambda name: trees.read_inside(place, name),
        )

    async def _put_layer(
        self, key: str, layer: Layer, place: Path, spec: Spec, tape: Tape
    ) -> None:
        """Have the layer made if need be, and its files in this bundle."""
        self._cache.use(place.name, key)
        try:
            source = await self._get(
                key, lambda own: self._lay(key, layer, spec, own), tape.write
            )
            await asyncio.to_thread(trees.link_tree, source / INSTALLED, place / INSTALLED)
        finally:
            self._cache.release(place.name)

    async def _lay(self, key: str, layer: Layer, spec: Spec, tape: Tape) -> Path:
        # Who waits for it holds one of the places to build; it needs no second one.
        async def fill(place: Path) -> Marker:
            await asyncio.to_thread(trees.write_files, place, layer.files)
            await self._install(place, spec, tape)
            return Marker("", await asyncio.to_thread(trees.tree_bytes, place))

        return await self._make(key, fill)


@contextmanager
def _noted(steps: list[Step], stage: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    steps.append(Step(stage, begin, time.monotonic()))


def bundle_key(spec: Spec, build_env: Mapping[str, str], driver: str) -> str:
    """Return what a bundle depends on, as one name."""
    package = spec.function.package
    sha256 = package.sha256 if package else ""
    return _digest("bundle", sha256, *_installer(spec, build_env, driver))


def layer_key(layer: Layer, spec: Spec, build_env: Mapping[str, str], driver: str) -> str:
    """Return what a layer depends on, as one name."""
    files = [(name, hashlib.sha256(content).hexdigest()) for name, content in layer.files]
    return _digest("layer", files, *_installer(spec, build_env, driver))


def _installer(spec: Spec, build_env: Mapping[str, str], driver: str) -> tuple[object, ...]:
    runtime = spec.runtime
    if not runtime.dependencies:
        return (runtime.image, runtime.path)
    # An installer reads its environment: another index may have other packages.
    indexes = what_is_found(build_env)
    return (
        # This host's interpreter installed it, or that of an image: which one of that name,
        # the miniworker knows.
        driver,
        runtime.image,
        runtime.path,
        runtime.dependencies,
        sorted(runtime.env.items()),
        indexes,
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
