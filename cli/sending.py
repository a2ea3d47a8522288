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
from skep import Client, Function

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


def register(
    client: Client,
    runtime: str,
    name: str,
    archive: Path,
    settings: Mapping[str, Any],
    *,
    prepare: bool,
) -> Function:
    """Upload a function; with ``prepare`` its dependencies are installed first."""
    with working(f"registering {name}") as work:
        return client.register_function(
            runtime, name, archive, prepare=prepare, on_log=_log(work, prepare), **settings
        )


def update(
    client: Client,
    name: str,
    archive: Path | None,
    settings: Mapping[str, Any],
    *,
    prepare: bool,
) -> Function:
    """Change a function's package, its settings, or both."""
    with working(f"updating {name}") as work:
        return client.update_function(
            name, archive, prepare=prepare, on_log=_log(work, prepare), **settings
        )


def _log(work: Work, prepare: bool) -> Callable[[str], None] | None:
    def show(piece: str) -> None:
        for line in piece.splitlines():
            work.line(click.style(f"  | {line}", dim=True))

    return show if prepare else None
