"""Archives by craftsmen: lies about sizes, shared bytes, holes, false names, any bytes."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.test_archive import both, entry, link, listing, tar, tree, zip_link, zipped
from wire.archive import check, unpack
from wire.errors import SkepError, TooLarge, UnsafeArchive, UnsupportedArchive
from wire.unpacked import Limits


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dice.zip", "it is a tar.gz"),
        ("dice.tar", "it is a tar.gz"),
        ("dice.txt", ".txt is no suffix"),
        ("dice.rar", ".rar is no suffix"),
        ("dice.7z", ".7z is no suffix"),
        ("dice.tar.bz2", ".tar.bz2 is no suffix"),
        ("DICE.ZIP", "it is a tar.gz"),
    ],
)
def test_a_wrong_suffix_is_refused_with_the_right_one(
    tmp_path: Path, name: str, says: str
) -> None:
    path = tar(tmp_path / "p", entry("test.py"))
    with pytest.raises(UnsupportedArchive, match=says) as refused:
        check(path, name)
    assert name.partition(".")[0] + ".tar.gz" in refused.value.hint


@pytest.mark.parametrize(
    "name", ["dice.tar.gz", "dice.tgz", "DICE.TGZ", "dice.gz", "dice", "dice-1.0", "module", ""]
)
def test_a_right_suffix_or_none_is_fine(tmp_path: Path, name: str) -> None:
    assert check(tar(tmp_path / "p", entry("test.py")), name).kind == "tar.gz"


def test_each_kind_has_its_suffixes(tmp_path: Path) -> None:
    packed = zipped(tmp_path / "z", ("test.py", b"1"))
    assert check(packed, "dice.zip").kind == check(packed, "dice.whl").kind == "zip"
    plain = tar(tmp_path / "t", entry("test.py"), mode="w")
    assert check(plain, "dice.tar").kind == "tar"
    for path in (packed, plain):
        with pytest.raises(UnsupportedArchive):
            check(path, "dice.tar.gz")


def overlapping(path: Path, copies: int) -> Path:
    """Write a zip whose files are all the same bytes: the bomb that needs no nesting."""
    zipped(path, ("a0", bytes(4000)))
    raw = path.read_bytes()
    first, end = raw.index(b"PK\x01\x02"), raw.rindex(b"PK\x05\x06")
    row = raw[first:end]
    rows = b"".join(row.replace(b"a0", b"%02d" % number) for number in range(copies))
    local = raw[:first]
    tail = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, copies, copies, len(rows), first, 0)
    path.write_bytes(local + rows + tail)
    return path


def test_files_that_share_bytes_are_refused(tmp_path: Path) -> None:
    error = both(overlapping(tmp_path / "p", 20))
    assert isinstance(error, UnsafeArchive)
    assert "overlaps" in error.message


@pytest.mark.parametrize("factor", [0.5, 2, 1000])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path, factor: float) -> None:
    noise = os.urandom(5000)
    path = zipped(tmp_path / "p", ("a", noise))
    raw = path.read_bytes()
    quoted, lie = struct.pack("<L", 5000), struct.pack("<L", int(5000 * factor))
    path.write_bytes(raw.replace(quoted, lie))
    assert isinstance(both(path), UnsupportedArchive | UnsafeArchive)


def test_the_holes_of_a_sparse_file_count(tmp_path: Path) -> None:
    """A GNU sparse header can promise 8 GiB of nothing in half a KiB."""
    info = tarfile.TarInfo("hole")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    # One piece of no bytes at the end, and the true size.
    huge = 8 << 30
    head[386 : 386 + 24] = b"%011o\0%011o\0" % (huge - 512, 0)
    head[483:495] = b"%011o\0" % (huge - 512)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path = tmp_path / "p"
    path.write_bytes(bytes(head) + bytes(1024))
    limits = Limits(total_bytes=1 << 20, ratio_from_bytes=1 << 20)
    assert isinstance(both(path, limits), TooLarge | UnsafeArchive)


def test_a_gzip_of_gzips_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(gzip.compress(gzip.compress(bytes(1 << 20))))
    assert isinstance(both(path), UnsupportedArchive)


def test_many_members_and_garbage_behind_a_gzip(tmp_path: Path) -> None:
    whole = tar(tmp_path / "t", entry("a.py"), mode="w").read_bytes()
    path = tmp_path / "p"
    path.write_bytes(gzip.compress(whole[:700]) + gzip.compress(whole[700:]))
    assert check(path).files == 1
    path.write_bytes(gzip.compress(whole) + b"garbage")
    assert isinstance(both(path), UnsupportedArchive)


def test_names_that_differ_in_case_are_two_files(tmp_path: Path) -> None:
    for path in (
        zipped(tmp_path / "z", ("A.py", b"1"), ("a.py", b"2")),
        tar(tmp_path / "t", entry("A.py", b"1"), entry("a.py", b"2")),
    ):
        unpack(path, path.with_suffix(".out"))
        assert tree(path.with_suffix(".out")) == {b"A.py": b"1", b"a.py": b"2"}


@pytest.mark.parametrize("system", [0, 3])
@pytest.mark.parametrize("raw", ["ü.txt".encode(), "ü.txt".encode("latin-1"), b"\x81.txt"])
def test_zip_names_of_every_encoding_survive(tmp_path: Path, raw: bytes, system: int) -> None:
    """UTF-8 and bytes of unix packers are kept; DOS text becomes UTF-8."""
    plain = b"x" * (len(raw) - 4) + b".txt"
    info = zipfile.ZipInfo(plain.decode())
    info.create_system = system
    path = zipped(tmp_path / "p", (info, b"1"))
    path.write_bytes(path.read_bytes().replace(plain, raw))
    unpack(path, tmp_path / "out")
    is_utf8 = raw.decode("utf-8", "ignore").encode() == raw
    expected = raw if is_utf8 or system == 3 else raw.decode("cp437").encode()
    assert tree(tmp_path / "out") == {expected: b"1"}


def test_setuid_and_strange_modes_do_not_survive(tmp_path: Path) -> None:
    script = zipfile.ZipInfo("run")
    script.create_system = 3
    script.external_attr = (stat.S_IFREG | 0o6777) << 16
    for path in (
        zipped(tmp_path / "z", (script, b"1")),
        tar(tmp_path / "t", entry("run", b"1", mode=0o7777)),
    ):
        out = path.with_suffix(".out")
        unpack(path, out)
        assert stat.S_IMODE((out / "run").stat().st_mode) == 0o755


def test_strong_encryption_is_called_encryption(tmp_path: Path) -> None:
    path = zipped(tmp_path / "p", ("a.py", b"1"))
    raw = bytearray(path.read_bytes())
    row = raw.index(b"PK\x01\x02")
    raw[row + 8] |= 0x41
    raw[row + 10 : row + 12] = struct.pack("<H", 99)
    path.write_bytes(raw)
    assert "encrypted" in both(path).message


pieces = st.sampled_from(
    [
        "a",
        "b",
        "..",
        ".",
        "",
        "/",
        "\\",
        "C:",
        "c:\\",
        "a/b",
        "\udcff",
        "ü",
        "x" * 300,
        "con",
        " ",
    ]
)
names = st.lists(pieces, min_size=1, max_size=5).flatmap(
    lambda some: st.sampled_from(["/".join(some), "\\".join(some), "".join(some)])
)
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
     tarfile.CHRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"]
)  # fmt: skip


def leads_inside(path: bytes, root: bytes) -> bool:
    try:
        Path(os.fsdecode(path)).stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            # Links in a circle lead nowhere (and ``realpath`` tells tales about them).
            return True
    real = os.path.realpath(root)
    return os.path.realpath(path) == real or os.path.realpath(path).startswith(real + b"/")


def prove_harmless(path: Path, root: Path) -> None:
    """Only our own errors come out, nothing lands outside, no link leads out."""
    before = listing(root)
    inside = root / "in"
    inside.mkdir()
    dest = inside / "dest"
    try:
        unpack(path, dest)
    except SkepError as error:
        assert error.message
        with pytest.raises(type(error)):
            check(path)
    else:
        check(path)
        for found in dest.rglob("*"):
            assert stat.S_IFMT(found.lstat().st_mode) in (
                stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK,
            )  # fmt: skip
            assert leads_inside(os.fsencode(found), os.fsencode(dest))
    assert listing(root) == sorted([*before, "in"])
    assert listing(inside) in ([], ["dest"])


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(st.tuples(names, kinds, names), min_size=1, max_size=5))
def test_whatever_a_tar_is_made_of_nothing_lands_outside(
    entries: list[tuple[str, bytes, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = [
            entry(name, b"1" if kind in (tarfile.REGTYPE, b"Z") else b"", type=kind,
                  linkname=target)
            for name, kind, target in entries
        ]  # fmt: skip
        prove_harmless(tar(root / "p", *made), root)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(st.tuples(names, st.booleans(), names), min_size=1, max_size=5))
def test_whatever_a_zip_is_made_of_nothing_lands_outside(
    entries: list[tuple[str, bool, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / "p"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, is_link, target in entries:
                plain = name.replace("\udcff", "y")
                # A second one of that name would only be warned of.
                if plain and plain not in archive.namelist():
                    aim = target.encode("utf-8", "surrogateescape")
                    archive.writestr(*(zip_link(plain, aim) if is_link else (plain, b"1")))
        prove_harmless(path, root)


magics = st.sampled_from(
    [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08\x00", bytes(512), gzip.compress(b"")]
)


@settings(max_examples=300, deadline=None)
@given(magic=magics, noise=st.binary(max_size=3000), tail=magics)
def test_any_bytes_are_refused_or_harmless(magic: bytes, noise: bytes, tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / "p"
        path.write_bytes(magic + noise + tail)
        prove_harmless(path, root)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_zip_with_any_directory_is_refused_or_harmless(data: st.DataObject) -> None:
    """The bytes that describe the files are changed, those of the files are not."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = zipped(root / "p", ("a/b.py", b"1" * 300), ("c", b"2"), zip_link("l", b"c"))
        raw = bytearray(path.read_bytes())
        first = raw.index(b"PK\x01\x02")
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(first, len(raw) - 1))
            raw[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x2F, 0x2E]))
        path.write_bytes(raw)
        prove_harmless(path, root)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_tar_with_any_header_is_refused_or_harmless(data: st.DataObject) -> None:
    """A field of the header is replaced and the sum mended, so that it is believed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = tar(root / "p", entry("a", b"1" * 600), link("l", "a"), mode="w")
        raw = bytearray(made.read_bytes())
        at = data.draw(st.sampled_from([0, 100, 108, 124, 136, 156, 157, 257, 345, 386, 483]))
        new = data.draw(st.binary(min_size=1, max_size=24))
        raw[at : at + len(new)] = new
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw[:512])
        made.write_bytes(raw)
        prove_harmless(made, root)
