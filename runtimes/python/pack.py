"""Pack an example's folder as the archive that is uploaded: ``python3 pack.py dice``.

The same files always give the same bytes: names sorted, no owner, no time, and stored
rather than compressed, because releases of zlib differ.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

ARCHIVE = "python.tar.gz"


def pack(folder: Path) -> bytes:
    """Return the archive of a folder, without the archive that lies in it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name != ARCHIVE:
                member = tarfile.TarInfo(path.name)
                member.size = path.stat().st_size
                tar.addfile(member, io.BytesIO(path.read_bytes()))
    return gzip.compress(plain.getvalue(), compresslevel=0, mtime=0)


if __name__ == "__main__":
    for example in map(Path, sys.argv[1:]):
        (example / ARCHIVE).write_bytes(pack(example))
