"""Packages fetched and bundles made, once each however many sandboxes wait for them.

A package is a file named by its sha256; a bundle is a folder with a name nobody can guess,
made in its final place (what installers write may name it) and whole only when its marker
says so. Bundles in use are counted by sandbox; the others go when the cache is too large.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from wire import archive
from wire.errors import SkepError
from wire.jobs import Built
from wire.models import Fault, Package, Reason, Spec
from wire.process import spawn
from worker.fetcher import Fetcher, NotFetched
from worker.flights import Flights
from worker.folder import NodeFolder

log = logging.getLogger(__name__)

MAX_PACKAGE_BYTES: Final = 1 << 30
PARALLEL: Final = 2
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_SPACE: Final = "no_space"


class NoBundle(Exception):
    """There will be no bundle, and whose fault that is."""

    def __init__(self, fault: Fault, reason: Reason, log: str = "") -> None:
        super().__init__(reason.message)
        self.fault = fault
        self.reason = reason
        self.log = log


class Marker(msgspec.Struct, frozen=True):
    """What the marker of a whole bundle says; its time of change is that of its last use."""

    key: str
    bytes: int


class Bundles:
    """The cache of one node."""

    def __init__(
        self,
        folder: NodeFolder,
        fetcher: Fetcher,
        build: Callable[[Spec, Path], Awaitable[Built]],
        cache_bytes: int,
    ) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._build = build
        self._cache_bytes = cache_bytes
        self._bundle_flights = Flights()
        self._package_flights = Flights()
        #: Packages that are being unpacked.
        self._reading: list[str] = []
        self._users: dict[str, str] = {}
        self._whole = _read_markers(folder)
        self._building = asyncio.Semaphore(PARALLEL)

    def __repr__(self) -> str:
        return f"<Bundles: {len(self._whole)} whole, {len(self._bundle_flights)} being made>"

    async def acquire(self, user: str, spec: Spec) -> Path:
        """Return the bundle of this revision, made if need be; ``user`` counts as using it.

        Raises:
            NoBundle: it cannot be had.
        """
        key = bundle_key(spec)
        self._users[user] = key
        name = self._whole.get(key)
        if name is not None:
            (self._folder.whole / name).touch()
            return self._folder.bundles / name
        return await self._bundle_flights.join(key, lambda: self._fly(key, spec))

    def release(self, user: str) -> None:
        """Count a user no more."""
        if self._users.pop(user, None) is not None:
            spawn(self._trim(self._cache_bytes), "trimming the cache")

    def outdated(self, bundle: Path) -> None:
        """Give a bundle to nobody any more; who uses it may go on, so its folder stays.

        Without its marker it is removed when the node starts the next time.
        """
        for key, name in list(self._whole.items()):
            if name == bundle.name:
                del self._whole[key]
                (self._folder.whole / name).unlink(missing_ok=True)

    async def close(self) -> None:
        """End what is under way."""
        await self._bundle_flights.close()
        await self._package_flights.close()

    async def _fly(self, key: str, spec: Spec) -> Path:
        async with self._building:
            name = await self._make_or_clear(key, spec)
        self._whole[key] = name
        await self._trim(self._cache_bytes)
        return self._folder.bundles / name

    async def _make_or_clear(self, key: str, spec: Spec) -> str:
        """Make it; when the disk is full, make room once and try once more."""
        try:
            return await self._make(key, spec)
        except NoBundle as error:
            if error.reason.code != _NO_SPACE:
                raise
        log.warning("the disk is full: evicting what is not in use")
        await self._trim(0)
        return await self._make(key, spec)

    async def _make(self, key: str, spec: Spec) -> str:
        name = secrets.token_hex(16)
        place = self._folder.bundles / name
        try:
            await self._fill(place, spec)
            await asyncio.to_thread(self._mark, name, key)
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))
            raise _explain(error) from error
        return name

    async def _fill(self, place: Path, spec: Spec) -> None:
        package = spec.function.package
        if package is None:
            await asyncio.to_thread(place.mkdir)
        else:
            await self._unpack(package, place)
        if not spec.runtime.dependencies:
            return
        built = await self._build(spec, place)
        if built.reason is not None:
            raise NoBundle(built.fault, built.reason, built.log)

    async def _unpack(self, package: Package, place: Path) -> None:
        self._reading.append(package.sha256)
        try:
            sha256 = package.sha256
            file = await self._package_flights.join(sha256, lambda: self._package(package))
            await asyncio.to_thread(archive.unpack, file, place)
        finally:
            self._reading.remove(package.sha256)

    async def _package(self, package: Package) -> Path:
        """Return the file of a package; fetched, and hashed as a whole, at most twice."""
        path = self._folder.packages / package.sha256
        if path.exists():
            path.touch()
            return path
        for _ in range(2):
            part = path.with_suffix(f".{secrets.token_hex(4)}.part")
            try:
                await self._fetch(package, part)
                if await asyncio.to_thread(_sha256, part) == package.sha256:
                    part.rename(path)
                    return path
            finally:
                part.unlink(missing_ok=True)
            log.warning("package %s arrived damaged", package.sha256)
        message = f"package {package.sha256} arrived damaged, twice"
        raise NoBundle(Fault.NODE, Reason(code="no_sandbox", message=message))

    async def _fetch(self, package: Package, part: Path) -> None:
        with part.open("wb") as file:

            def store(piece: bytes) -> None:
                file.write(piece)

            await self._fetcher.fetch(
                "package", package.sha256, store, limit=max(package.size, 1)
            )

    # --- the cache ---

    def _mark(self, name: str, key: str) -> None:
        """Say that a bundle is whole."""
        size = _tree_bytes(self._folder.bundles / name)
        temp = self._folder.whole / f"{name}.new"
        temp.write_bytes(msgspec.json.encode(Marker(key, size)))
        temp.rename(self._folder.whole / name)

    async def _trim(self, keep_bytes: int) -> None:
        """Remove what was unused longest until the rest is small enough.

        What goes is chosen and hidden at once, on the loop: nobody can acquire it meanwhile.
        """
        used = {self._whole.get(key) for key in self._users.values()} | {*self._reading}
        sizes = {path: path.stat().st_size for path in _plain(self._folder.packages)}
        sizes |= {path: _marker(path).bytes for path in _plain(self._folder.whole)}
        total = sum(sizes.values())
        for path in sorted(sizes, key=lambda path: path.stat().st_mtime):
            if total <= keep_bytes:
                return
            if path.name not in used:
                total -= sizes[path]
                await self._remove(path)

    async def _remove(self, path: Path) -> None:
        if path.parent == self._folder.whole:
            self._whole.pop(_marker(path).key, None)
        # A bundle's marker goes first: without it the bundle does not exist.
        path.unlink()  # noqa: ASYNC240 - at once, before anybody can ask for it
        bundle = self._folder.bundles / path.name
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)


def bundle_key(spec: Spec) -> str:
    """Return what a bundle depends on, as one name."""
    runtime, package = spec.runtime, spec.function.package
    parts = (
        package.sha256 if package else "",
        runtime.image,
        runtime.path,
        runtime.dependencies,
        sorted(runtime.env.items()) if runtime.dependencies else [],
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _explain(error: BaseException) -> BaseException:
    if isinstance(error, NotFetched):
        return NoBundle(Fault.NODE, error.reason)
    if isinstance(error, SkepError):
        reason = Reason(code="install_failed", message=f"{error.message} ({error.hint})")
        return NoBundle(Fault.FUNCTION, reason)
    if isinstance(error, OSError):
        code = _NO_SPACE if error.errno in _FULL else "no_sandbox"
        return NoBundle(Fault.NODE, Reason(code=code, message=f"no bundle: {error}"))
    return error


def _read_markers(folder: NodeFolder) -> dict[str, str]:
    whole = {}
    for path in folder.whole.iterdir():
        if path.suffix or not (folder.bundles / path.name).is_dir():
            path.unlink()
        else:
            whole[_marker(path).key] = path.name
    return whole


def _plain(folder: Path) -> list[Path]:
    """Return the files of a folder that are not temporary."""
    return [path for path in folder.iterdir() if not path.suffix]


def _marker(path: Path) -> Marker:
    return msgspec.json.decode(path.read_bytes(), type=Marker)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tree_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        total += sum(Path(folder, name).lstat().st_size for name in files)
    return total
