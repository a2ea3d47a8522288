"""Folders as archives: the same bytes for the same content, git's rules, safe links, limits."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.packing import check_size, pack
from cli.tree import BadFolder, entries
from skep import SkepError
from wire.archive import unpack


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def packed_files(folder: Path) -> set[str]:
    return {entry.path for entry in entries(folder) if entry.kind != "folder"}


NAMES = st.text("abc.é \n", min_size=1, max_size=6).filter(lambda n: n not in (".", ".."))


@given(
    files=st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=5),
    executable=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_the_same_content_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], executable: bool
) -> None:
    digests = set()
    for turn in (1, -1):
        base = tmp_path_factory.mktemp("folder")
        folder = base / "f"
        folder.mkdir()
        for name, content in list(files.items())[::turn]:
            (folder / name).write_bytes(content)
            # What a umask, a checkout or a touch changes is no content.
            (folder / name).chmod((0o700 if turn > 0 else 0o755) if executable else 0o640)
            os.utime(folder / name, (turn + 2, turn + 2))
        made = pack(folder, base / "out.tar.gz")
        unpack(made.path, base / "back")
        assert {p.name: p.read_bytes() for p in (base / "back").iterdir()} == files
        assert all(os.access(p, os.X_OK) == executable for p in (base / "back").iterdir())
        digests.add(made.sha256)
    assert len(digests) == 1


def test_another_content_or_an_executable_bit_gives_other_bytes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "1"})
    first = pack(folder, tmp_path / "1").sha256
    (folder / "a").chmod(0o755)
    second = pack(folder, tmp_path / "2").sha256
    (folder / "a").write_text("2")
    third = pack(folder, tmp_path / "3").sha256
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    "rules",
    [
        {".gitignore": "*.log\n"},
        {".gitignore": "*.log\n!keep.log\n"},
        {".gitignore": "/build\ndocs/\n"},
        {".gitignore": "**/deep/*.txt\n"},
        {".gitignore": "*.log\n", "sub/.gitignore": "!a.log\nb.txt\n"},
        {".gitignore": "sub/\n!sub/a.log\n"},
        {".gitignore": "sub/*\n!sub/deep/\n"},
        {".gitignore": "# a comment\n\n\\#hash\na b\ntrailing \n"},
        {"sub/.gitignore": "*\n!b.txt\n"},
        {".gitignore": "[ab].txt\ndocs/**\n"},
    ],
)
def test_ignore_files_mean_what_git_means(tmp_path: Path, rules: dict[str, str]) -> None:
    names = (
        "a.txt", "b.txt", "keep.log", "x.log", "build/a.txt", "docs/a.txt", "docs/x/b.txt",
        "sub/a.log", "sub/b.txt", "sub/deep/c.txt", "sub/deep/d.log", "sub/build/e", "#hash",
        "a b", "trailing",
    )  # fmt: skip
    fill(tmp_path, {**dict.fromkeys(names, "x"), **rules})
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert packed_files(tmp_path) == {n for n in listed.split("\0") if n} - rules.keys()


def test_skepignore_counts_after_gitignore_and_brings_back(tmp_path: Path) -> None:
    fill(tmp_path, {
        ".gitignore": "dist/\n*.bin\n", ".skepignore": "!dist/\ntests/\n!node_modules/\n",
        "dist/app.py": "", "x.bin": "", "tests/t.py": "", "main.py": "",
        "node_modules/m.js": "",
    })  # fmt: skip
    assert packed_files(tmp_path) == {"dist/app.py", "main.py", "node_modules/m.js"}


def test_what_is_made_again_is_never_packed(tmp_path: Path) -> None:
    fill(tmp_path, {
        "main.py": "", ".git/config": "", "__pycache__/main.pyc": "", "sub/__pycache__/x": "",
        "old.pyc": "", ".venv/bin/python": "", "node_modules/a.js": "", "skep.json": "{}",
        ".mypy_cache/x": "", "sub/skep.json": "{}", ".skepignore": "!.git/\n!__pycache__/\n",
    })  # fmt: skip
    assert packed_files(tmp_path) == {"main.py", "sub/skep.json"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../x", "sub/../a"])
def test_a_link_out_of_the_folder_is_refused_and_named(tmp_path: Path, target: str) -> None:
    fill(tmp_path, {"a": "", "sub/b": ""})
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(BadFolder, match=r"the link link leads to") as caught:
        entries(tmp_path)
    assert ".skepignore" in caught.value.hint


def test_a_link_within_stays_a_link(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "1", "sub/b": ""})
    (folder / "sub" / "link").symlink_to("../a")
    (folder / "folder").symlink_to("sub")
    made = pack(folder, tmp_path / "out.tar.gz")
    unpack(made.path, tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "link").readlink() == Path("../a")
    assert (tmp_path / "back" / "folder").readlink() == Path("sub")
    with tarfile.open(made.path) as tar:
        assert {member.uid for member in tar} | {member.mtime for member in tar} == {0}


def test_what_is_no_file_is_refused_and_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFolder, match="pipe is neither"):
        entries(tmp_path)
    (tmp_path / ".skepignore").write_text("pipe\n")
    with pytest.raises(BadFolder, match="nothing to pack"):
        pack(tmp_path, tmp_path.with_suffix(".out"))


def test_too_much_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "noise").write_bytes(os.urandom(2 << 20))
    with pytest.raises(BadFolder, match=r"larger than 1\.0 MiB") as caught:
        pack(folder, tmp_path / "out", limit_bytes=1 << 20)
    assert isinstance(caught.value, SkepError)
    with (folder / "noise").open("ab") as file:
        file.truncate(600 << 20)
    with pytest.raises(BadFolder, match="the limit is"):
        check_size(folder / "noise")
    with pytest.raises(BadFolder, match="512 MiB"):
        entries(folder)
