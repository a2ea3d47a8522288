"""A folder or an archive on its way to the api, with what the installer says meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from cli.display import Work, working
from cli.packing import check_size, pack
from cli.tree import Entry
from skep import Client, Function, SkepError

#: An installer may be silent for long: how many seconds count as no answer.
PATIENCE_S: Final = 900.0


@contextmanager
def archive_of(
    path: Path, name: str, note: Callable[[str], None], found: Sequence[Entry] | None = None
) -> Iterator[Path]:
    """Give the archive that is uploaded: ``path`` itself, or its content packed."""
    if not path.is_dir():
        check_size(path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="skep-pack-") as folder:
        packed = pack(path, Path(folder) / f"{name.replace('/', '_')}.tar.gz", found)
        note(str(packed))
        yield packed.path


class Installer:
    """What an installer says, shown below the spinner's line as it comes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.has_spoken = False

    def hear(self, piece: str) -> None:
        """Show a piece of its output, line by line."""
        self.has_spoken = True
        for line in piece.splitlines():
            self._work.line(click.style(f"  | {line}", dim=True))


def register(
    client: Client,
    runtime: str,
    name: str,
    archive: Path,
    settings: Mapping[str, Any],
    *,
    prepare: bool,
    is_heard: bool = True,
) -> Function:
    """Upload a function; with ``prepare`` its dependencies are installed first."""
    with _installing(f"registering {name}") as installer:
        return client.register_function(
            runtime, name, archive, prepare=prepare,
            on_log=installer.hear if prepare and is_heard else None, **settings,
        )  # fmt: skip


def update(
    client: Client,
    name: str,
    archive: Path | None,
    settings: Mapping[str, Any],
    *,
    prepare: bool,
    is_heard: bool = True,
) -> Function:
    """Change a function's package, its settings, or both."""
    with _installing(f"updating {name}") as installer:
        return client.update_function(
            name, archive, prepare=prepare,
            on_log=installer.hear if prepare and is_heard else None, **settings,
        )  # fmt: skip


@contextmanager
def _installing(text: str) -> Iterator[Installer]:
    with working(text) as work:
        installer = Installer(work)
        try:
            yield installer
        except SkepError as error:
            if installer.has_spoken and error.code == "install_failed":
                # Its last lines are in the message too, and stand above already.
                first = error.message.partition("\n")[0]
                error.message = first.removesuffix("; its last lines:")
            raise
