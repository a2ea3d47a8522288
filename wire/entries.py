"""What is in a zip or a tar, entry by entry, read forward once in bounded memory.

The readers trust nothing that Python's libraries read unbounded: a zip's list of files is
measured before it is parsed, and no header of a tar is read that is longer than 1 MiB. What
the entries may be called and where links may lead is judged in ``wire.archive``.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

from wire.errors import TooLarge, UnsafeArchive, UnsupportedArchive

Kind = Literal["zip", "tar", "tar.gz"]
Grew = Callable[[int], None]

#: What the name of a file of each kind ends in; the first is the usual one.
_SUFFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "zip": (".zip", ".jar", ".whl", ".pyz"),
    "tar": (".tar",),
    "tar.gz": (".tar.gz", ".tgz", ".gz"),
}
#: ``.tar`` before another one belongs to it; ``dice-1.0`` ends in a version, in no suffix.
_SUFFIX: Final = re.compile(r"(\.tar)?\.(?=[0-9]*[a-z])[a-z0-9]{1,12}$")
PIECE_BYTES: Final = 256 << 10
_HEADER_BYTES: Final = 1 << 20
#: What one file takes in a zip's list of files, generously.
_ENTRY_BYTES: Final = 300
_BLOCK: Final = 512
#: A file's own header in a zip, without name and extra field.
_LOCAL_HEADER: Final = 30
_ZIP_END: Final = b"PK\x05\x06"
_ZIP64_LOCATOR: Final = b"PK\x06\x07"
_ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: What to do about it: hints of errors.
LEAVE_OUT: Final = "leave out what `dependencies` installs, and what the code does not need"
_NO_DEVICE: Final = "pack files, folders and links alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, a folder, a symbolic link, or (hardlink) another name of an earlier file."""

    name: bytes
    type: Literal["file", "dir", "symlink", "hardlink"]
    executable: bool = False
    target: bytes = b""
    #: How many bytes a file has, as the archive says; None: its reader sees to it.
    size: int | None = None
    #: When a file was changed, where that is known; seconds.
    changed_at: float | None = None
    #: Opens the content of a file.
    open: Callable[[], IO[bytes]] = io.BytesIO


def sniff(path: Path) -> Kind:
    """Return the kind of an archive by its first bytes; raise ``UnsupportedArchive``."""
    with path.open("rb") as file:
        head = file.read(_BLOCK)
    if head.startswith((b"PK\x03\x04", _ZIP_END)):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if _is_tar_header(head):
        return "tar"
    raise UnsupportedArchive(
        "it is no zip, tar or tar.gz", hint="pack it with: tar czf package.tar.gz *"
    )


def check_suffix(name: str, kind: Kind) -> None:
    """Refuse a file whose name says that it is something else; no suffix says nothing.

    Raises:
        UnsupportedArchive: its sender and its content disagree; one of them is wrong.
    """
    found = _SUFFIX.search(name.lower())
    if found is None or found[0] in _SUFFIXES[kind]:
        return
    right = f"{name[: found.start()][-60:]}{_SUFFIXES[kind][0]}"
    if any(found[0] in each for each in _SUFFIXES.values()):
        raise UnsupportedArchive(
            f"it is a {kind}, not what {found[0]} says",
            hint=f"if it is the right file, rename it to {right}",
        )
    raise UnsupportedArchive(
        f"{found[0][:20]} is no suffix of a zip, tar or tar.gz",
        hint=f"its content is a {kind}: rename it to {right}, if it is the right file",
    )


def _is_tar_header(block: bytes) -> bool:
    if block == bytes(_BLOCK):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def read(path: Path, kind: Kind, max_files: int, grew: Grew) -> Iterator[Entry]:
    """Give the entries in order; each one's content must be read before the next.

    ``grew`` is told of every byte that unpacking a compressed tar brings forth, headers too,
    and may end it all by raising.
    """
    if kind == "zip":
        yield from _zip_entries(path, max_files)
    else:
        with path.open("rb") as file:
            # GzipFile also checks the whole stream's sum once it is read to its end.
            stream = gzip.GzipFile(fileobj=file) if kind == "tar.gz" else file
            yield from tar_entries(cast("IO[bytes]", stream), grew)


# --- zip -------------------------------------------------------------------------------


def _zip_entries(path: Path, max_files: int) -> Iterator[Entry]:
    _check_zip_list(path, max_files)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_overlaps(infos, archive.start_dir)
        for info in infos:
            yield _zip_entry(archive, info)


def _check_zip_list(path: Path, max_files: int) -> None:
    """Refuse a list of files that would fill the memory: it is parsed whole."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 64))
        tail = file.read()
    at = len(tail) - 22
    if tail[at : at + 4] != _ZIP_END or not tail.endswith(b"\0\0"):
        at = tail.rfind(_ZIP_END)
    if at < 0:
        raise zipfile.BadZipFile("its end is missing")
    list_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[max(0, at - 20) :].startswith(_ZIP64_LOCATOR) or list_bytes > (
        max_files * _ENTRY_BYTES
    ):
        raise TooLarge(f"its list holds more than {max_files} files", hint=LEAVE_OUT)


def _check_overlaps(infos: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse files that share bytes: so a small zip can hold any number of large ones."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        # The name is as many bytes as it has letters, or more.
        least = _LOCAL_HEADER + len(info.orig_filename) + info.compress_size
        if info.header_offset < 0:
            raise zipfile.BadZipFile(f"{show(_zip_name(info))} begins before the file does")
        if info.header_offset + least > end:
            raise UnsafeArchive(
                f"{show(_zip_name(info))} overlaps another file",
                hint="this is how bombs are made; pack it again with an ordinary packer",
            )
        end = info.header_offset


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name = _zip_name(info)
    shown = show(name)
    if info.flag_bits & 0x1:
        raise UnsupportedArchive(f"{shown} is encrypted", hint="pack it without a password")
    if info.compress_type not in _ZIP_METHODS:
        raise UnsupportedArchive(
            f"{shown} is packed by method {info.compress_type}", hint="use deflate"
        )
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    if name.endswith(b"/"):
        return Entry(name=name, type="dir")
    if stat.S_ISLNK(mode):
        with archive.open(info) as content:
            return Entry(name=name, type="symlink", target=content.read(4096))
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UnsafeArchive(f"{shown} is a device, pipe or socket", hint=_NO_DEVICE)
    return Entry(
        name=name,
        type="file",
        executable=bool(mode & 0o100),
        size=info.file_size,
        open=lambda: archive.open(info),
    )


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """Return the name as its bytes were meant: UTF-8, a unix byte string, or DOS text."""
    name = info.orig_filename
    if info.flag_bits & 0x800:
        return name.encode()
    raw = name.encode("cp437")
    try:
        raw.decode()
    except UnicodeDecodeError:
        if info.create_system != 3:
            raw = name.encode()
    # Old packers on Windows write backslashes between folders.
    return raw.replace(b"\\", b"/") if info.create_system == 0 else raw


# --- tar -------------------------------------------------------------------------------


class _Forward:
    """What ``tarfile`` needs of a file, forward only; refuses headers of hostile length."""

    def __init__(self, stream: IO[bytes], grew: Grew) -> None:
        self.last = b""
        self._stream = stream
        self._grew = grew
        self._position = 0

    def read(self, size: int) -> bytes:
        if size > _HEADER_BYTES:
            raise UnsafeArchive(f"a header in it is {size} bytes long")
        data = self._stream.read(size)
        self._position += len(data)
        self._grew(len(data))
        self.last = data
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("its parts overlap")
        while self._position < position:
            if not self.read(min(PIECE_BYTES, position - self._position)):
                raise EOFError("it ends early")
        return position


def tar_entries(
    stream: IO[bytes], grew: Grew, *, special: Literal["refuse", "skip"] = "refuse"
) -> Iterator[Entry]:
    """Give the entries of a plain tar that is read forward: ``read`` says the rest.

    ``special`` is what becomes of devices, pipes and the like.
    """
    forward = _Forward(stream, grew)
    archive = tarfile.TarFile(
        fileobj=cast("IO[bytes]", forward),
        mode="r",
        encoding="utf-8",
        errors="surrogateescape",
    )
    while (info := archive.next()) is not None:
        # Else every entry of it would be kept for its life.
        cast("Any", archive).members.clear()
        if special == "refuse" or info.isreg() or info.isdir() or info.issym() or info.islnk():
            yield _tar_entry(archive, info)
    if forward.last != bytes(_BLOCK):
        # ``tarfile`` takes a damaged header for the end.
        raise tarfile.ReadError("its end is missing")
    while forward.read(PIECE_BYTES):
        pass


def _tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    name = _tar_name(info.name)
    if info.isdir():
        return Entry(name=name, type="dir")
    if info.issym():
        return Entry(name=name, type="symlink", target=_tar_name(info.linkname))
    if info.islnk():
        return Entry(name=name, type="hardlink", target=_tar_name(info.linkname))
    content = archive.extractfile(info) if info.isreg() else None
    if content is None:
        raise UnsafeArchive(
            f"{show(name)} is a device, pipe or something unknown", hint=_NO_DEVICE
        )
    return Entry(
        name=name,
        type="file",
        executable=bool(info.mode & 0o100),
        changed_at=float(info.mtime),
        open=lambda: content,
    )


def _tar_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def show(name: bytes) -> str:
    """Return a name for a message, however hostile it is."""
    text = name[:120].decode("utf-8", "backslashreplace")
    return repr(text + ("..." if len(name) > 120 else ""))
