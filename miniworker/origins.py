"""Which image each bundle's dependencies were installed in.

A name of an image may lead to another one tomorrow, whose interpreter cannot load what was
installed for the first. So a bundle that was built by another image is built again. It is
noted beside the driver's agents, by the bundle's name; and in the folder of packages, which
may be shared by bundles that were not built themselves.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from wire.inside import PACKAGES

#: In the folder of packages.
NAME: Final = ".skep-image"
#: Of an image's id, and more.
ID_BYTES: Final = 256


class Origins:
    """The notes of one node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "origins"

    def note(self, bundle: Path, image_id: str) -> None:
        """Note that a bundle was built in this image; when nothing of the build runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        half = self._folder / f"{bundle.name}.{os.getpid()}"
        half.write_text(image_id)
        half.rename(self._folder / bundle.name)
        # It may be anything that an installer made, or nothing.
        with contextlib.suppress(OSError):
            _write(bundle / PACKAGES, image_id)

    def is_of(self, bundle: Path, image_id: str) -> bool:
        """Return whether a bundle fits an image: built in it, or in none."""
        with contextlib.suppress(OSError):
            return (self._folder / bundle.name).read_text() == image_id
        with contextlib.suppress(OSError):
            return _read(bundle / PACKAGES) == image_id.encode()
        return True

    def forget_others(self, bundles: Path) -> None:
        """Remove the notes of bundles that are there no more; only before any is built."""
        if self._folder.is_dir():
            for entry in self._folder.iterdir():
                if not (bundles / entry.name).is_dir():
                    entry.unlink()


def _write(folder: Path, text: str) -> None:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NAME, dir_fd=place)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = os.open(NAME, flags, 0o644, dir_fd=place)
        os.write(file, text.encode())
        os.close(file)
    finally:
        os.close(place)


def _read(folder: Path) -> bytes:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Not waiting: what stands there may be a pipe.
        file = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        try:
            return os.read(file, ID_BYTES)
        finally:
            os.close(file)
    finally:
        os.close(place)
