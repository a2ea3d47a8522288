"""What a build left, as a tar that a stranger made: taken whole, cut, or refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniworker.collecting import LIMITS, replace_by
from miniworker.packing import Folder, Tree, pack
from miniworker.passing import moved
from wire.errors import SkepError, TooLarge, UnsafeArchive
from wire.unpacked import Limits


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "") -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.size, header.linkname = kind, len(data), link
    return header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


TOP = entry("ws", tarfile.DIRTYPE)
END = bytes(1024)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    place.mkdir()
    (place / "old").write_text("old")
    return place


@pytest.mark.parametrize("size", [1, 511, 700, 1 << 20])
def test_it_replaces_the_folder_however_it_is_cut(bundle: Path, size: int) -> None:
    data = TOP + entry("ws/new", data=b"x" * 1000) + entry("ws/pipe", tarfile.FIFOTYPE)
    data += entry("ws/l", tarfile.SYMTYPE, link="/etc") + entry("ws/n/", tarfile.DIRTYPE) + END
    replace_by(bundle, pieces(data, size))
    assert sorted(path.name for path in bundle.iterdir()) == ["l", "n", "new"]
    assert (bundle / "new").read_bytes() == b"x" * 1000
    assert list(bundle.parent.iterdir()) == [bundle]


HOSTILE = {
    "out": TOP + entry("ws/../x", data=b"x"),
    "elsewhere": TOP + entry("etc/x", data=b"x"),
    "absolute": TOP + entry("ws//../../x", data=b"x"),
    "through a link": TOP
    + entry("ws/l", tarfile.SYMTYPE, link="/tmp")
    + entry("ws/l/x", data=b"x"),
    "hard link out": TOP + entry("ws/h", tarfile.LNKTYPE, link="etc/passwd"),
    "hard link to a link": TOP
    + entry("ws/l", tarfile.SYMTYPE, link="/etc/passwd")
    + entry("ws/h", tarfile.LNKTYPE, link="ws/l"),
    "no folder": entry("ws", tarfile.SYMTYPE, link="/etc"),
    "a file": entry("ws", data=b"x"),
    "twice": TOP + entry("ws/x", data=b"x") + entry("ws/x", data=b"y"),
    "cut off": TOP + entry("ws/x", data=b"x" * 5000)[:2000],
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_build_makes_is_refused_and_changes_nothing(bundle: Path, name: str) -> None:
    data = HOSTILE[name] + (b"" if name in ("cut off", "nothing") else END)
    with pytest.raises(UnsafeArchive):
        replace_by(bundle, pieces(data, 1 << 16))
    assert [path.name for path in bundle.iterdir()] == ["old"]
    assert list(bundle.parent.iterdir()) == [bundle]


def test_more_than_may_be_is_refused(bundle: Path) -> None:
    files = b"".join(entry(f"ws/{number}", data=b"x" * 600) for number in range(20))
    with pytest.raises(TooLarge):
        replace_by(bundle, iter([TOP + files + END]), Limits(files=10))
    with pytest.raises(TooLarge):
        replace_by(bundle, iter([TOP + files + END]), Limits(total_bytes=8000))
    assert [path.name for path in bundle.iterdir()] == ["old"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 1500))
def test_noise_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    place = tmp_path_factory.mktemp("noise") / "bundle"
    place.mkdir()
    good = TOP + entry("ws/a", data=b"a" * 600) + END
    try:
        replace_by(place, iter([good[:at] + noise + good[at:]]), LIMITS)
    except SkepError:
        assert list(place.iterdir()) == []
    assert list(place.parent.iterdir()) == [place]


def test_a_tree_is_packed_as_it_will_be_sealed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / ("d" * 120)).mkdir(parents=True)
    (top / ("d" * 120) / "é").write_bytes(b"x" * 1000)
    (top / "run").write_text("#!/bin/sh")
    (top / "run").chmod(0o700)
    (top / "out").symlink_to("/etc/passwd")
    parts: list[Tree | Folder] = [
        Folder(target="bundles", mode=0o711),
        Tree(source=top, target="a", owner=(7, 8)),
    ]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(parts))), encoding="utf-8") as packed:
        found = {one.name: one for one in packed}
        content = packed.extractfile(f"a/{'d' * 120}/é")
        assert content is not None
        assert content.read() == b"x" * 1000
    assert set(found) == {
        "bundles",
        "a",
        "a/" + "d" * 120,
        f"a/{'d' * 120}/é",
        "a/run",
        "a/out",
    }
    assert (found["bundles"].mode, found["bundles"].uid) == (0o711, 0)
    assert (found["a/run"].mode, found["a/run"].uid, found["a/run"].gid) == (0o755, 7, 8)
    assert (found["a/out"].issym(), found["a/out"].linkname) == (True, "/etc/passwd")


def test_variables_name_files_by_their_new_paths() -> None:
    env = {"A": "/x/ca.pem  /x/ca.pem.old", "B": "-f /links/inner", "C": "/x"}
    places = {"/x/ca.pem": "/n/0/ca.pem", "/links": "/n/1/links"}
    assert moved(env, places) == {
        "A": "/n/0/ca.pem  /x/ca.pem.old",
        "B": "-f /n/1/links/inner",
        "C": "/x",
    }
