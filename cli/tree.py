"""What of a folder is packed: its files, folders and links, by the ignore files in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cli.ignoring import ROOT, Ignoring
from skep import SkepError

#: The api's own limits on what an archive may unpack to; refused here before the upload.
MAX_FILES: Final = 20_000
MAX_CONTENT_BYTES: Final = 512 << 20


class BadFolder(SkepError):
    """A folder that cannot be packed: the message names what stands in the way."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, code="bad_folder", hint=hint)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One thing that is packed, by its path from the root, with ``/`` between."""

    path: str
    kind: Literal["file", "folder", "link"]
    size: int
    is_executable: bool
    target: str
    #: Changes when the thing does: what a watcher compares.
    mark: tuple[int, ...]


def entries(folder: Path) -> list[Entry]:
    """Return what is packed of a folder, in the order of its paths.

    Raises:
        BadFolder: something in it cannot be packed; the message says what.
        BadIgnoreFile: an ignore file cannot be read.
    """
    found: list[Entry] = []
    content = 0
    for entry in _walk(folder, "", ROOT.below(folder, "")):
        found.append(entry)
        content += entry.size
        if content > MAX_CONTENT_BYTES or len(found) > MAX_FILES:
            raise BadFolder(
                f"{folder} holds more than {MAX_FILES:,} entries, or than 512 MiB",
                "name what is not needed in a .skepignore file",
            )
    # As bytes: the order must not hang on how a name decodes.
    return sorted(found, key=lambda entry: os.fsencode(entry.path))


def _walk(folder: Path, prefix: str, rules: Ignoring) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            inside = list(found)
    except OSError as error:
        raise BadFolder(f"{folder} cannot be read: {error.strerror}") from error
    for one in inside:
        path = prefix + one.name
        is_folder = one.is_dir(follow_symlinks=False)
        if rules.leaves_out(path, is_folder=is_folder):
            continue
        if (entry := _entry(one, path)) is None:
            continue
        yield entry
        if is_folder:
            below = Path(one.path)
            yield from _walk(below, f"{path}/", rules.below(below, f"{path}/"))


def _entry(one: os.DirEntry[str], path: str) -> Entry | None:
    try:
        about = one.stat(follow_symlinks=False)
        if stat.S_ISLNK(about.st_mode):
            target = str(Path(one.path).readlink())
            _check_link(path, target)
            return Entry(path, "link", 0, False, target, (about.st_mtime_ns, about.st_ino))
    except FileNotFoundError:
        # Gone between the two looks, as editors' temporary files are.
        return None
    if stat.S_ISDIR(about.st_mode):
        return Entry(path, "folder", 0, False, "", ())
    if not stat.S_ISREG(about.st_mode):
        raise BadFolder(
            f"{path} is neither a file, a folder nor a link", "name it in a .skepignore file"
        )
    executable = bool(about.st_mode & stat.S_IXUSR)
    mark = (about.st_mtime_ns, about.st_size, about.st_ino, about.st_mode)
    return Entry(path, "file", about.st_size, executable, "", mark)


def _check_link(path: str, target: str) -> None:
    """Refuse what the api would refuse: a link that may lead out of the folder."""
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = next((i for i, step in enumerate(steps) if step != ".."), len(steps))
    inside = up <= path.count("/") and ".." not in steps[up:]
    if target.startswith("/") or not inside:
        raise BadFolder(
            f"the link {path} leads to {target}, out of the folder",
            "copy what it leads to, or name the link in a .skepignore file",
        )
