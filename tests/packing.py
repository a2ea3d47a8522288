"""Archives as a user would upload them, made of texts."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping


def tar_gz(files: Mapping[str, str]) -> bytes:
    """Return a tar.gz of these files, all of them executable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    # Without the time of day: the same texts are the same package.
    return gzip.compress(buffer.getvalue(), mtime=0)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip of these files; the same texts are the same package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
