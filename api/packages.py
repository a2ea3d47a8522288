"""Packages on the api's disk: taken in as a stream, named by their sha256, never half there.

A package is durable before the catalogue names it: a temporary file, fsync, rename, fsync of
the folder. An upload that breaks off leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from wire import archive
from wire.errors import StoreUnavailable, TooLarge
from wire.models import Package

_TEMPORARY: Final = ".upload-"


class Packages:
    """The folder of packages."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
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

        Raises:
            TooLarge, UnsafeArchive, UnsupportedArchive: it is not taken in, and why.
            StoreUnavailable: there is no room on the disk.
        """
        with self._temporary() as (path, file):
            sha256, size = await self._receive(pieces, file)
            await asyncio.to_thread(archive.check, path, originalname)
            await asyncio.to_thread(self._keep, path, file, sha256)
        return Package(sha256=sha256, size=size, originalname=originalname)

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

    def _keep(self, path: Path, file: BinaryIO, sha256: str) -> None:
        os.fsync(file.fileno())
        path.rename(self.folder / sha256)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
