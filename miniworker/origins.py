"""Which image each bundle's dependencies were installed in, kept beside the driver's agents.

A name of an image may lead to another one tomorrow, whose interpreter cannot load what was
installed for the first. So a bundle that was built by another image is built again.
"""

from __future__ import annotations

import os
from pathlib import Path


class Origins:
    """The notes of one node: a file for each bundle."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "origins"

    def note(self, bundle: Path, image_id: str) -> None:
        """Note that a bundle was built in this image."""
        self._folder.mkdir(parents=True, exist_ok=True)
        half = self._folder / f"{bundle.name}.{os.getpid()}"
        half.write_text(image_id)
        half.rename(self._folder / bundle.name)

    def is_of(self, bundle: Path, image_id: str) -> bool:
        """Return whether a bundle fits an image: built in it, or in none."""
        try:
            return (self._folder / bundle.name).read_text() == image_id
        except FileNotFoundError:
            return True

    def forget_others(self, bundles: Path) -> None:
        """Remove the notes of bundles that are there no more; only before any is built."""
        if self._folder.is_dir():
            for entry in self._folder.iterdir():
                if not (bundles / entry.name).is_dir():
                    entry.unlink()
