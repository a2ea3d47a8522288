"""A folder as the archive that is uploaded: the same content gives the same bytes.

Entries are sorted, without owner and time, with mode 644 or 755; gzip is told no time. Only
another release of zlib may compress the same content to other bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cli.tree import BadFolder, Entry, entries
from cli.words import plural, size

#: The api's limit of an upload.
LIMIT_BYTES: Final = 64 << 20
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was made: where, of how many files with how many bytes."""

    path: Path
    files: int
    content: int
    size: int
    sha256: str

    def __str__(self) -> str:
        return (
            f"{plural(self.files, 'file')}, {size(self.content)}, packed {size(self.size)}, "
            f"sha256 {self.sha256[:12]}"
        )


def pack(
    folder: Path,
    dest: Path,
    found: Sequence[Entry] | None = None,
    *,
    limit_bytes: int = LIMIT_BYTES,
) -> Packed:
    """Write what is packed of ``folder`` as the tar.gz ``dest``.

    Raises:
        BadFolder: there is nothing to pack, too much, or something that cannot be.
        BadIgnoreFile: an ignore file cannot be read.
    """
    found = entries(folder) if found is None else found
    files = [entry for entry in found if entry.kind != "folder"]
    if not files:
        raise BadFolder(
            f"there is nothing to pack in {folder}",
            "is it the right folder? .gitignore and .skepignore leave files out",
        )
    with dest.open("wb") as out:
        _write(folder, found, _Limited(out, limit_bytes))
    with dest.open("rb") as made:
        digest = hashlib.file_digest(made, "sha256").hexdigest()
    content = sum(entry.size for entry in files)
    return Packed(dest, len(files), content, dest.stat().st_size, digest)


def _write(folder: Path, found: Sequence[Entry], out: _Limited) -> None:
    with (
        gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as packed,
        tarfile.open(
            fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT,
            encoding="utf-8", errors="surrogateescape",
        ) as tar,
    ):  # fmt: skip
        for entry in found:
            _add(tar, folder, entry)


def _add(tar: tarfile.TarFile, folder: Path, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    if entry.kind == "folder":
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif entry.kind == "link":
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.target
        tar.addfile(member)
    else:
        member.mode = 0o755 if entry.is_executable else 0o644
        _add_file(tar, member, folder / entry.path)


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    try:
        # Neither through a link that took its place, nor waiting for a pipe's other end.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as content:
            member.size = os.fstat(fd).st_size
            tar.addfile(member, content)
    except (OSError, tarfile.TarError) as error:
        why = getattr(error, "strerror", "") or "it changed while it was read"
        raise BadFolder(f"{path} cannot be packed: {why}") from error


class _Limited:
    """Passes bytes on until they are more than the api takes."""

    def __init__(self, out: BinaryIO, limit: int) -> None:
        self._out = out
        self._limit = limit
        self._count = 0

    def write(self, data: bytes) -> int:
        self._count += len(data)
        if self._count > self._limit:
            raise BadFolder(
                f"the package is larger than {size(self._limit)}",
                "name what is not needed in a .skepignore file",
            )
        return self._out.write(data)

    def flush(self) -> None:
        self._out.flush()


def check_size(archive: Path) -> None:
    """Refuse an archive that the api would refuse for its size, before it is sent."""
    if archive.stat().st_size > LIMIT_BYTES:
        raise BadFolder(
            f"{archive} has {size(archive.stat().st_size)}, the limit is {size(LIMIT_BYTES)}",
            "leave out what is not needed",
        )
