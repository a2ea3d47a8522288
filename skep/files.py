"""A file that is there whole, or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote

_FILENAME: Final = re.compile(r"filename\*=UTF-8''([^;]+)", re.IGNORECASE)


def place_of(dest: os.PathLike[str] | str, headers: Mapping[str, str]) -> Path:
    """Return the file that is meant: ``dest``, or in that folder what the server calls it."""
    path = Path(dest)
    if not path.is_dir():
        return path
    said = _FILENAME.search(headers.get("content-disposition", ""))
    # Whatever the server says, it names no other folder.
    name = re.split(r"[/\\\0]", unquote(said[1]))[-1] if said else ""
    return path / (name if name.strip(".") else "package")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes its place only when the block has ended well."""
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
