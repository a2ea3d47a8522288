"""A folder that is watched: what changed, once it has settled; names made of folders."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from cli.dev import name_of
from cli.tree import BadFolder
from cli.watching import Watcher, differences, summary


def settled(watcher: Watcher) -> list[str]:
    """Return what changed after two looks at a folder that stays the same."""
    watcher.look()
    return watcher.look()


def test_a_change_counts_once_the_folder_has_settled(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    watcher = Watcher(tmp_path)
    assert watcher.look() == []
    (tmp_path / "b").write_text("1")
    assert watcher.look() == []
    assert watcher.look() == ["+a", "+b"]
    watcher.take()
    assert watcher.look() == []


def test_every_kind_of_change_is_seen_and_nothing_that_is_not_packed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\n")
    watcher = Watcher(tmp_path)
    settled(watcher)
    watcher.take()
    (tmp_path / "x.log").write_text("ignored")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("")
    assert settled(watcher) == []
    (tmp_path / "a").write_text("changed")
    (tmp_path / "b").replace(tmp_path / "d")
    (tmp_path / "c").chmod(0o755)
    (tmp_path / "skep.json").write_text("{}")
    assert settled(watcher) == ["a", "c", "+d", "+skep.json", "-b"]
    (tmp_path / ".gitignore").unlink()
    assert "+x.log" in settled(watcher)


def test_what_cannot_be_packed_is_raised_and_the_next_look_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    watcher = Watcher(tmp_path)
    settled(watcher)
    watcher.take()
    (tmp_path / "out").symlink_to("/")
    with pytest.raises(BadFolder, match="the link out"):
        watcher.look()
    (tmp_path / "out").unlink()
    assert settled(watcher) == []


def test_changes_are_said_compactly() -> None:
    assert differences({"a": (1,)}, {"a": (1,)}) == []
    assert summary(["a", "+b"]) == "a, +b"
    assert summary(list("abcde")) == "a, b, c and 2 files more"


@pytest.mark.parametrize(
    ("folder", "name"), [("hello", "hello"), ("my bench", "my-bench"), (".x", "x"), ("é1", "1")]
)
def test_a_folders_name_becomes_a_functions(tmp_path: Path, folder: str, name: str) -> None:
    assert name_of(tmp_path / folder) == name


def test_a_folder_without_a_usable_name_wants_one() -> None:
    with pytest.raises(click.UsageError, match="--name"):
        name_of(Path("/"))
