"""Which transport an engine is reached by: what it sees, and what a container shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from miniworker.engine import Engine, Mount
from miniworker.engine_settings import Settings
from miniworker.proving import Choice, Prover, Wanted
from miniworker.sandbox import NoSandbox
from tests import engine
from tests.miniworker.rig import open_folder, probe

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
NO_IMAGES: tuple[tuple[str, str], ...] = ()


@pytest.fixture
def draft(tmp_path: Path) -> Iterator[Settings]:
    settings = probe(open_folder(tmp_path), "container")["settings"]
    yield msgspec.convert(settings, Settings)
    assert engine.containers(settings["installation"]) == []
    left = [one.name for one in tmp_path.rglob("proof-*")]
    assert left == []


def choose(
    draft: Settings,
    wanted: Wanted = "auto",
    own: Mapping[str, Mount] | None = None,
    images: tuple[tuple[str, str], ...] = NO_IMAGES,
) -> Choice:
    asked = Engine(draft.engine, draft.version)
    try:
        return Prover(asked, draft, own or {}, images).choose(wanted)
    finally:
        asked.close()


def test_without_an_image_what_the_engine_sees_has_to_do(draft: Settings) -> None:
    choice = choose(draft)
    assert choice.settings.transport == "mounts"
    assert "no container has shown it: the engine has no image" in choice.words


def test_a_container_shows_it(draft: Settings) -> None:
    images = ((engine.PYTHON_IMAGE, "python"),)
    for wanted in ("auto", "stdio"):
        choice = choose(draft, wanted, images=images)
        assert choice.settings.transport == {"auto": "mounts"}.get(wanted, wanted)
        assert choice.words.endswith("(a container has shown it)")


def test_an_image_that_cannot_be_met_is_to_blame_and_not_the_transport(
    draft: Settings,
) -> None:
    choice = choose(draft, images=((engine.base_image(), "python"),))
    assert choice.settings.transport == "mounts"
    assert "python3" in choice.words


def test_a_worker_whose_files_the_engine_does_not_see_has_stdio(draft: Settings) -> None:
    nowhere = {str(Path(draft.folder).parent): Mount(source="/nowhere/at/all")}
    choice = choose(draft, own=nowhere, images=((engine.PYTHON_IMAGE, "python"),))
    assert choice.settings.transport == "stdio"
    assert "not by mounts: the Docker engine at" in choice.words
    assert "not by volumes: this worker's --data is in no volume" in choice.words
    with pytest.raises(NoSandbox, match="does not see this worker's files") as caught:
        choose(draft, "mounts", own=nowhere)
    assert "--transport stdio" in caught.value.hint


def test_a_worker_whose_files_are_in_a_volume_names_it(draft: Settings) -> None:
    place = str(Path(draft.folder).parent)
    own = {place: Mount(source=place, is_volume=True), "/": Mount(source="/other")}
    choice = choose(draft, own=own, images=((engine.PYTHON_IMAGE, "python"),))
    assert choice.settings.transport == "volumes"
    assert choice.words.endswith("not by mounts: this worker's --data is in a volume")
    with pytest.raises(NoSandbox, match="in no volume"):
        choose(draft, "volumes")


def test_where_mounts_are_seen_but_no_agent_comes_of_them_stdio_is_taken(
    draft: Settings,
) -> None:
    # As on a file system that lets nobody but its owner read.
    Path(draft.folder, "agents").chmod(0o700)
    choice = choose(draft, images=((engine.PYTHON_IMAGE, "python"),))
    assert choice.settings.transport == "stdio"
    assert "not by mounts: " in choice.words
    assert "Permission denied" in choice.words
