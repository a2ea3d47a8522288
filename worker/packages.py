"""Packages on a node: each a file named by its sha256, fetched once however many want it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from pathlib import Path

from wire.codec import Payload
from wire.models import Fault, Package, Reason
from worker.failures import NoBundle
from worker.fetcher import Fetcher
from worker.flights import Flights
from worker.folder import NodeFolder

log = logging.getLogger(__name__)


class Packages:
    """The packages of one node."""

    def __init__(self, folder: NodeFolder, fetcher: Fetcher) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._flights: Flights[Path] = Flights()

    def __repr__(self) -> str:
        return f"<Packages: {len(self._flights)} under way>"

    async def file(self, package: Package) -> Path:
        """Return the file of a package, fetched if need be.

        Raises:
            NoBundle, NotFetched, OSError: it cannot be had.
        """
        return await self._flights.join(package.sha256, lambda: self._get(package))

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _get(self, package: Package) -> Path:
        """Fetch it, and hash it as a whole, at most twice."""
        path = self._folder.packages / package.sha256
        # Hashed again: nobody waited for the disk, and a power cut may have cut it short.
        if path.exists() and await asyncio.to_thread(_sha256, path) == package.sha256:
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

            def store(piece: Payload) -> None:
                file.write(piece)

            await self._fetcher.fetch(
                "package", package.sha256, store, limit=max(package.size, 1)
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
