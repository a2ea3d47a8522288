"""A disk of a few MiB that a test can fill: a file system in memory, of a fixed size."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = "ballast"


class SmallDisk:
    """A mounted file system; ``fill`` leaves no room, ``free`` makes it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, leave: int = 0) -> None:
        """Take all room but so many bytes."""
        with (self.folder / BALLAST).open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        """Give all room back."""
        (self.folder / BALLAST).unlink()


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[SmallDisk]:
    """Mount one; skips the test where nobody may mount."""
    folder.parent.chmod(0o755)
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "skep-test", str(folder)]
    if (
        os.geteuid() != 0
        or subprocess.run(command, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs root that may mount a small file system")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: what still dies may hold it for a moment.
        subprocess.run(["umount", "-l", str(folder)], check=True)
