"""Packages on the api's disk: taken in as a stream, named by their sha256, never half there.

A package is durable before the catalogue names it: a temporary file, fsync, rename, fsync of
the folder. An upload that breaks off leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from wire import archive
from wire.errors import StoreUnavailable, TooLarge
from wire.models import Package

_TEMPORARY: Final = ".upload-"


class Packages:
    """The folder of packages."""

    def __init__(
        self, folder: Path, max_bytes: int, is_named: Callable[[str], bool] = lambda _: True
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._is_named = is_named
        #: Requests that stored a package and are not done with it, by sha256.
        self._claims: Counter[str] = Counter()
        #: What the DB node was asked to name: whether it did may be known only later.
        self._kept: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Packages in {self.folder}>"

    def path(self, package: Package) -> Path:
        """Return where a package's bytes are."""
        return self.folder / package.sha256

    async def store(self, pieces: AsyncIterator[bytes], originalname: str) -> Package:
        """Take an archive in, check it, and make it durable under its name.

        Whoever stores a package has to ``release`` it when his request is over.

        Raises:
            TooLarge, UnsafeArchive, UnsupportedArchive: it is not taken in, and why.
            StoreUnavailable: there is no room on the disk.
        """
        with self._temporary() as (path, file):
            sha256, size = await self._receive(pieces, file)
            await asyncio.to_thread(archive.check, path, originalname)
            self._claims[sha256] += 1
            package = Package(sha256=sha256, size=size, originalname=originalname)
            try:
                await asyncio.to_thread(self._place, path, file, sha256)
            except BaseException:
                self.release(package)
                raise
        return package

    def keep(self, package: Package) -> None:
        """Never remove this one: the catalogue is about to name it."""
        self._kept.add(package.sha256)

    def release(self, package: Package) -> None:
        """End a claim; a package that nothing names and nobody claims is removed."""
        sha256 = package.sha256
        self._claims[sha256] -= 1
        if self._claims[sha256] > 0:
            return
        del self._claims[sha256]
        if sha256 not in self._kept and not self._is_named(sha256):
            self.path(package).unlink(missing_ok=True)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        path = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            with path.open("xb") as file:
                yield path, file
        except OSError as error:
            raise StoreUnavailable(
                f"the package cannot be kept: {error}", hint="is the api's disk full?"
            ) from error
        finally:
            path.unlink(missing_ok=True)

    async def _receive(self, pieces: AsyncIterator[bytes], file: BinaryIO) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        async for piece in pieces:
            size += len(piece)
            if size > self._max_bytes:
                raise TooLarge(
                    f"the package is larger than {self._max_bytes} bytes",
                    hint="leave out what `dependencies` installs",
                )
            digest.update(piece)
            file.write(piece)
        file.flush()
        return digest.hexdigest(), size

    def _place(self, path: Path, file: BinaryIO, sha256: str) -> None:
        os.fsync(file.fileno())
        path.rename(self.folder / sha256)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
