"""Packages on the api's disk: taken in as a stream, named by their sha256, never half there.

A package is durable before the catalogue names it: a temporary file, fsync, rename, fsync of
the folder. An upload that breaks off, or whose function is refused, leaves nothing; what a
crash left between rename and catalogue is removed at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from wire import archive
from wire.durable import make_folder, sync_names
from wire.errors import BadRequest, SkepError, StoreUnavailable, TooLarge, UnknownFunction
from wire.models import Package

log = logging.getLogger(__name__)

_TEMPORARY: Final = ".upload-"
_NAME_CHARS: Final = 64


class Packages:
    """The folder of packages; ``is_named`` says whether the catalogue names a sha256."""

    def __init__(self, folder: Path, max_bytes: int, is_named: Callable[[str], bool]) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._is_named = is_named
        #: Kept packages that requests are about to have named.
        self._pending: Counter[str] = Counter()
        make_folder(folder, 0o700)
        self._sweep()

    def __repr__(self) -> str:
        return f"<Packages in {self.folder}>"

    def _sweep(self) -> None:
        """Remove what nothing names: only at a start, when nothing is under way."""
        for left in self.folder.iterdir():
            is_package = len(left.name) == _NAME_CHARS and not left.name.startswith(".")
            if left.name.startswith(_TEMPORARY) or (
                is_package and not self._is_named(left.name)
            ):
                log.info("removed %s: no function names it", left.name)
                left.unlink(missing_ok=True)

    def path(self, package: Package) -> Path:
        """Return where a package's bytes are."""
        return self.folder / package.sha256

    def found(self, package: Package) -> Path:
        """Return where a package's bytes are.

        Raises:
            UnknownFunction: they are not on this api's disk.
        """
        path = self.path(package)
        if not path.is_file():
            raise UnknownFunction(
                f"the package {package.sha256} is not on the disk of this api",
                hint="was its data folder emptied? Upload the function again",
            )
        return path

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[Uploading]:
        """Take a package in for a change that may be refused: then it does not stay."""
        uploading = Uploading(self)
        try:
            yield uploading
        finally:
            self._over(uploading)

    def _over(self, uploading: Uploading) -> None:
        uploading.close()
        package = uploading.package
        if package is None or not uploading.is_kept:
            return
        self._pending[package.sha256] -= 1
        if self._pending[package.sha256] or uploading.is_unsure:
            return
        del self._pending[package.sha256]
        if not self._is_named(package.sha256):
            self.path(package).unlink(missing_ok=True)

    def hold(self, package: Package) -> None:
        """A request has kept this package; it is not removed under its hands."""
        self._pending[package.sha256] += 1


class Uploading:
    """One package on its way in."""

    def __init__(self, packages: Packages) -> None:
        self.package: Package | None = None
        self.is_kept = False
        self.is_unsure = False
        self._packages = packages
        self._path = packages.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"

    def __repr__(self) -> str:
        return f"<Uploading {self.package!r}{' kept' if self.is_kept else ''}>"

    def require(self) -> Package:
        """Return the package.

        Raises:
            BadRequest: none was sent.
        """
        if self.package is None:
            raise BadRequest(
                "the field module is missing", hint="curl: -F module=@function.tar.gz"
            )
        return self.package

    def check_size(self, announced: int, beside: int) -> None:
        """Refuse a body that says itself that it is too large, before any of it is read.

        Raises:
            TooLarge: it is over the limit of packages and what may come ``beside`` one.
        """
        if announced > self._packages.max_bytes + beside:
            raise too_large(self._packages.max_bytes)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Have the catalogue name the package; only an answer says whether it does."""
        self.is_unsure = True
        try:
            yield
        except StoreUnavailable:
            # The change may come about all the same: the next start knows.
            raise
        except SkepError:
            self.is_unsure = False
            raise
        self.is_unsure = False

    async def receive(self, pieces: AsyncIterator[bytes], originalname: str) -> None:
        """Write the pieces to a temporary file as they come, and check the archive.

        Raises:
            TooLarge, UnsafeArchive, UnsupportedArchive: it is not taken in, and why.
            StoreUnavailable: there is no room on the disk.
        """
        with _disk(), self._path.open("xb") as file:
            sha256, size = await self._write(pieces, file)
        await asyncio.to_thread(archive.check, self._path, originalname)
        self.package = Package(sha256=sha256, size=size, originalname=originalname)

    async def keep(self) -> None:
        """Make the package durable under its name; without one there is nothing to do."""
        if self.package is not None:
            self._packages.hold(self.package)
            self.is_kept = True
            await asyncio.to_thread(self._rename, self._packages.path(self.package))

    def close(self) -> None:
        """Remove what is not kept."""
        self._path.unlink(missing_ok=True)

    async def _write(self, pieces: AsyncIterator[bytes], file: BinaryIO) -> tuple[str, int]:
        digest, size, most = hashlib.sha256(), 0, self._packages.max_bytes
        async for piece in pieces:
            size += len(piece)
            if size > most:
                raise too_large(most)
            digest.update(piece)
            file.write(piece)
        return digest.hexdigest(), size

    def _rename(self, target: Path) -> None:
        with _disk():
            _sync(self._path)
            self._path.rename(target)
            sync_names(target.parent)


def too_large(most: int) -> TooLarge:
    """Return the refusal of a package that is over its limit."""
    return TooLarge(
        f"the package is larger than {most} bytes",
        hint="leave out what `dependencies` installs, or start the api with --max-package",
    )


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError):
        # Not the disk: the client is gone, or says nothing any more.
        raise
    except OSError as error:
        raise StoreUnavailable(
            f"the package cannot be kept: {error}", hint="is the api's disk full?"
        ) from error


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
