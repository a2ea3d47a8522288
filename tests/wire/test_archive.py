"""Archives: honest ones survive whole, hostile ones are refused with the reason named."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.archive import check, unpack
from wire.errors import SkepError, TooLarge, UnsafeArchive, UnsupportedArchive
from wire.unpacked import Limits

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"x", mode: int = 0o644, **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = mode
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return entry(name, b"", type=kind, linkname=target)


def tar(path: Path, *entries: Entry, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return path


def zip_link(name: str, target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def tree(root: Path) -> dict[bytes, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {os.fsencode(path.relative_to(root)): path.read_bytes() for path in files}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def both(path: Path, limits: Limits | None = None) -> SkepError:
    """Return what ``check`` raises, having proved that ``unpack`` raises the same."""
    given = limits or Limits()
    with pytest.raises(SkepError) as checked:
        check(path, "up", given)
    with pytest.raises(type(checked.value)):
        unpack(path, path.with_name("dest"), given)
    assert checked.value.message.startswith("up: ")
    assert checked.value.hint
    return checked.value


def test_the_tar_survives_with_modes_links_and_names(tmp_path: Path) -> None:
    packed = tar(
        tmp_path / "p.tar.gz",
        entry("./", b"", type=tarfile.DIRTYPE, mode=0o700),
        entry("./test.py", b"print(1)"),
        entry("bin/run.sh", b"#!/bin/sh", mode=0o6755),
        entry("bin/run.sh.gz", b"z" * 2048),
        link("bin/alias", "../test.py"),
        link("hard", "bin/run.sh", tarfile.LNKTYPE),
        entry("n\udcff\udcfe.txt", b"latin"),
        entry("a" * 180 + "/" + "b" * 200, b"long name"),
    )
    found = check(packed)
    assert (found.kind, found.files, found.bytes) == ("tar.gz", 7, 8 + 9 + 2048 + 5 + 9)
    dest = tmp_path / "out"
    assert unpack(packed, dest) == found
    assert stat.S_IMODE((dest / "bin/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((dest / "test.py").stat().st_mode) == 0o644
    assert (dest / "bin/alias").read_bytes() == b"print(1)"
    assert (dest / "hard").read_bytes() == b"#!/bin/sh"
    assert tree(dest)[b"n\xff\xfe.txt"] == b"latin"


def test_the_zip_survives_with_modes_and_names(tmp_path: Path) -> None:
    script = zipfile.ZipInfo("bin/run.sh")
    script.external_attr = (stat.S_IFREG | 0o755) << 16
    script.create_system = 3
    windows = zipfile.ZipInfo("win\\dir\\file.txt")
    windows.create_system = 0
    packed = zipped(
        tmp_path / "p.zip",
        ("plain.py", b"print(1)"),
        (script, b"#!/bin/sh"),
        (windows, b"w"),
        ("grün/ü.txt", b"utf-8"),
        ("folder/", b""),
        zip_link("alias", b"plain.py"),
    )
    dest = tmp_path / "out"
    assert unpack(packed, dest) == check(packed)
    assert stat.S_IMODE((dest / "bin/run.sh").stat().st_mode) == 0o755
    assert (dest / "alias").read_bytes() == b"print(1)"
    assert (dest / "grün/ü.txt").read_bytes() == b"utf-8"
    assert (dest / "folder").is_dir()
    assert (dest / "win/dir/file.txt").read_bytes() == b"w"


def test_a_zip_name_without_the_utf8_flag_keeps_its_bytes(tmp_path: Path) -> None:
    packed = zipped(tmp_path / "p.zip", ("aaaa.txt", b"1"))
    packed.write_bytes(packed.read_bytes().replace(b"aaaa", b"a\xff\xfea"))
    unpack(packed, tmp_path / "out")
    assert tree(tmp_path / "out") == {b"a\xff\xfea.txt": b"1"}


names = st.lists(
    st.text(st.characters(exclude_characters="/\0\\", exclude_categories=["Cs"]), min_size=1)
    .filter(lambda part: part not in (".", "..") and len(part.encode()) < 200)
    # Two letters: one and a colon are a drive, which is refused.
    .map(lambda part: "ff" + part),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(files=st.dictionaries(names, st.binary(max_size=2000), min_size=1, max_size=6))
def test_what_is_packed_comes_out(files: dict[str, bytes]) -> None:
    paths = {path.encode(): data for path, data in files.items()}
    clash = any(a != b and b.startswith(a + b"/") for a in paths for b in paths)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = [
            zipped(root / "z", *files.items()),
            tar(root / "t", *(entry(*pair) for pair in files.items()), mode="w"),
            tar(root / "g", *(entry(*pair) for pair in files.items())),
        ]
        for path in made:
            dest = path.with_suffix(".out")
            if clash:
                with pytest.raises(UnsafeArchive):
                    unpack(path, dest)
            else:
                assert unpack(path, dest) == check(path)
                assert tree(dest) == paths


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make: Callable[[Path], Path] = data.draw(
            st.sampled_from(
                [
                    lambda p: zipped(p, ("a/b.py", b"1" * 3000), zip_link("l", b"a")),
                    lambda p: tar(p, entry("a/b.py", b"1" * 3000), link("l", "a"), mode="w"),
                    lambda p: tar(p, entry("a/b.py", b"1" * 3000), link("l", "a")),
                ]
            )
        )
        path = make(root / "p")
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
        try:
            check(path)
        except SkepError:
            return
        (root / "in").mkdir()
        unpack(path, root / "in" / "dest")
        assert listing(root) == ["in", "p"]
        assert listing(root / "in") == ["dest"]


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_every_truncation_is_seen(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p"
    noise = os.urandom(700)
    if kind == "zip":
        zipped(path, ("a.py", noise), ("b.py", noise))
    else:
        tar(
            path,
            entry("a.py", noise),
            entry("b.py", noise),
            mode="w" if kind == "tar" else "w:gz",
        )
    raw = path.read_bytes()
    # A tar is padded with zero blocks after its end: without those it is whole.
    whole = len(raw.rstrip(b"\0")) if kind == "tar" else len(raw)
    for size in range(0, whole, 37):
        path.write_bytes(raw[:size])
        with pytest.raises(UnsupportedArchive):
            check(path)


HOSTILE: dict[str, tuple[list[Entry], str]] = {
    "absolute": ([entry("/etc/passwd")], "absolute"),
    "a drive": ([entry("C:\\x")], "absolute"),
    "a drive as a folder": ([entry("c:/x")], "absolute"),
    "a share": ([entry("\\\\host\\share")], "absolute"),
    "traversal": ([entry("a/../../x")], "leads out"),
    "traversal by backslashes": ([entry("a\\..\\..\\x")], "leads out"),
    "even inner dots": ([entry("a/../x")], "leads out"),
    "absolute link": ([link("l", "/etc")], "link"),
    "link out": ([link("a/l", "../../x")], "link"),
    "link out through a link": ([link("p/q/l", "../../z"), link("p/q/m", "l/../..")], "link"),
    "file through a link": ([link("l", "."), entry("l/x")], "where there is a link"),
    "file over a link": ([link("l", "x"), entry("l")], "twice"),
    "empty link": ([link("l", "")], "link"),
    "hard link out": ([link("l", "../x", tarfile.LNKTYPE)], "leads out"),
    "hard link to nothing": ([link("l", "x", tarfile.LNKTYPE)], "no file"),
    "hard link to link": ([link("l", "x"), link("h", "l", tarfile.LNKTYPE)], "no file"),
    "device": ([entry("d", b"", type=tarfile.CHRTYPE)], "device"),
    "pipe": ([entry("d", b"", type=tarfile.FIFOTYPE)], "device"),
    "twice": ([entry("a"), entry("./a")], "twice"),
    "file then folder": ([entry("a"), entry("a/b")], "needs a folder"),
    "folder then file": ([entry("a/b"), entry("a")], "twice"),
    "the root itself": ([entry(".", b"x")], "replaces"),
    "too deep": ([entry("a/" * 40 + "b")], "deeper"),
    "too long": ([entry("a" * 300)], "too long"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused(tmp_path: Path, name: str) -> None:
    entries, says = HOSTILE[name]
    error = both(tar(tmp_path / "p", entry("first.py"), *entries))
    assert isinstance(error, UnsafeArchive)
    assert says in error.message
    assert listing(tmp_path) == ["dest", "p"]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("../x", b"")], "leads out"),
        ([("/x", b"")], "absolute"),
        ([("C:\\x", b"")], "absolute"),
        ([("..\\x", b"")], "leads out"),
        ([zip_link("l", b"../x")], "link"),
        ([zip_link("l", b"."), ("l/x", b"")], "where there is a link"),
        ([("a/b", b""), ("a", b"")], "twice"),
    ],
)
def test_a_hostile_zip_is_refused(
    tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], says: str
) -> None:
    error = both(zipped(tmp_path / "p", *entries))
    assert isinstance(error, UnsafeArchive)
    assert says in error.message


def test_a_zip_device_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("dev")
    info.create_system = 3
    info.external_attr = (stat.S_IFBLK | 0o644) << 16
    assert "device" in both(zipped(tmp_path / "p", (info, b""))).message


def test_an_encrypted_zip_is_unsupported(tmp_path: Path) -> None:
    path = zipped(tmp_path / "p", ("a.py", b"1"))
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    error = both(path)
    assert isinstance(error, UnsupportedArchive)
    assert "encrypted" in error.message


@pytest.mark.parametrize(
    "content",
    [b"", b"%PDF-1.4", b"Rar!\x1a\x07", b"BZh91AY", b"\0" * 511, b"x" * 5000, b"\x1f\x8b"],
)
def test_other_files_are_unsupported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    assert isinstance(both(tmp_path / "p"), UnsupportedArchive)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_empty_archive_is_unsupported(tmp_path: Path, mode: str) -> None:
    assert "empty" in both(tar(tmp_path / "p", mode=mode)).message


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    zeros = bytes(20 << 20)
    for path in (tar(tmp_path / "t", entry("z", zeros)), zipped(tmp_path / "z", ("z", zeros))):
        with pytest.raises(UnsafeArchive, match="times its size"):
            check(path)


def test_too_much_is_too_large(tmp_path: Path) -> None:
    limits = Limits(total_bytes=100_000, files=10)
    noise = os.urandom(200_000)
    assert isinstance(both(zipped(tmp_path / "z", ("z", noise)), limits), TooLarge)
    (tmp_path / "dest" / "z").unlink()
    (tmp_path / "dest").rmdir()
    many = [entry(f"f{i}") for i in range(11)]
    with pytest.raises(TooLarge, match="10 files"):
        check(tar(tmp_path / "t", *many), limits=limits)
    with pytest.raises(TooLarge, match="10 files"):
        check(tar(tmp_path / "d", *(entry(f"d{i}/{i}/x") for i in range(9))), limits=limits)
    with pytest.raises(TooLarge, match="10 files"):
        check(
            zipped(tmp_path / "m", *((f"{i}" * 300, b"") for i in range(10, 21))), limits=limits
        )


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 30
    with gzip.open(tmp_path / "p", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(4 << 20))
    assert "header" in both(tmp_path / "p").message


def test_a_zip64_locator_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "p", ("a", b"1"))
    raw = path.read_bytes()
    end = raw.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    path.write_bytes(raw[:end] + locator + raw[end:])
    assert isinstance(both(path), TooLarge)


def test_junk_between_tar_entries_is_damage(tmp_path: Path) -> None:
    first = tar(tmp_path / "a", entry("a", b"1"), mode="w").read_bytes()[:1024]
    (tmp_path / "p").write_bytes(first + b"j" * 512 + first + bytes(1024))
    assert isinstance(both(tmp_path / "p"), UnsupportedArchive)
