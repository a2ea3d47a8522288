"""``skep function``: upload functions, look at them, change, download and remove them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from cli import showing
from cli.display import is_person, table
from cli.naming import FUNCTION
from cli.options import Group, connected, print_json, shared
from cli.starter import new
from cli.tables import Cell, Column
from cli.upload import register, update
from cli.words import size
from skep import Client

_COLUMNS: Final = (
    Column("NAME"), Column("RUNTIME", 1, flexible=True), Column("REVISION", 2, right=True),
    Column("CALLS", 2, right=True), Column("TIMEOUT", 3, right=True),
    Column("MEMORY", 3, right=True), Column("SIZE", 4, right=True), Column("UPDATED"),
    Column("DESCRIPTION", 5, flexible=True),
)  # fmt: skip
_REVISIONS: Final = (
    Column("REVISION", right=True), Column("UPDATED"), Column("PACKAGE", 1),
    Column("SIZE", 2, right=True), Column("RUNTIME", 3, flexible=True),
    Column("RUNS", 2, flexible=True), Column("TIMEOUT", 3, right=True),
    Column("MEMORY", 3, right=True),
)  # fmt: skip


@click.group(
    cls=Group,
    later={"build": "cli.function_build:build", "push": "cli.pushing:push_function"},
)
@shared()
def function() -> None:
    """Register, list, show, update, remove functions; start one."""


for command in (register, update, new):
    function.add_command(command)


@function.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("-l", "--long", "is_long", is_flag=True,
              help="Details also where no terminal reads them.")  # fmt: skip
@shared()
@click.pass_context
def list_(ctx: click.Context, quiet: bool, is_long: bool) -> None:
    """List the functions: a table on a terminal, else their names."""
    with connected(ctx) as (target, client):
        showing.described(
            client.functions(), client.get_function,
            columns=_COLUMNS, row=_row, as_json=target.json,
            only_names=quiet or not (is_long or (is_person() and not target.json)),
        )  # fmt: skip


def _row(one: Any) -> list[Cell]:
    package = one.get("package") or {}
    return [
        Cell(one["functionName"]),
        Cell(one["runtimeName"]),
        Cell(str(one["revision"])),
        Cell(str(one.get("callCount", "-"))),
        Cell(f"{one['timeout']:g} s", f"{one['timeout']:g}"),
        Cell(f"{one['memory']} MiB", str(one["memory"])),
        Cell(size(package.get("size")), str(package.get("size", ""))),
        showing.when(one.get("updatedAt")),
        Cell(one.get("description") or ""),
    ]


@function.command()
@click.argument("name", type=FUNCTION)
@click.option("--revision", type=click.IntRange(1), allow_from_autoenv=False,
              help="As it was at this revision.")  # fmt: skip
@shared()
@click.pass_context
def show(ctx: click.Context, name: str, revision: int | None) -> None:
    """Show a function: its package and all settings."""
    with connected(ctx) as (target, client):
        found = client.get_function(name, revision)
    print_json(found) if target.json else showing.record(found)


@function.command()
@click.argument("names", type=FUNCTION, nargs=-1, required=True)
@shared()
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove functions. Calls that were accepted before still run."""
    with connected(ctx) as (target, client):
        status = showing.each(names, client.delete_function, as_json=target.json)
    sys.exit(status)


@function.command()
@click.argument("name", type=FUNCTION)
@shared()
@click.pass_context
def revisions(ctx: click.Context, name: str) -> None:
    """List all revisions of a function, oldest first."""
    with connected(ctx) as (target, client):
        found = client.revisions(name)
    print_json(found) if target.json else table(_REVISIONS, list(map(_revision, found)))


def _revision(one: Any) -> list[Cell]:
    package = one.get("package") or {}
    digest = package.get("sha256", "")
    return [
        Cell(str(one["revision"])),
        showing.when(one.get("updatedAt")),
        Cell(digest[:12], digest),
        Cell(size(package.get("size")), str(package.get("size", ""))),
        Cell(one["runtimeName"]),
        Cell(one.get("entry") or one.get("run") or ""),
        Cell(f"{one['timeout']:g} s", f"{one['timeout']:g}"),
        Cell(f"{one['memory']} MiB", str(one["memory"])),
    ]


@function.command()
@click.argument("name", type=FUNCTION)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
              help="Where to write it; - is stdout.  [default: NAME and suffix]")  # fmt: skip
@click.option("--revision", type=click.IntRange(1), allow_from_autoenv=False,
              help="That of an older revision.")  # fmt: skip
@shared()
@click.pass_context
def download(ctx: click.Context, name: str, output: Path | None, revision: int | None) -> None:
    """Download the package of a function, as it was uploaded."""
    with connected(ctx) as (target, client):
        if str(output) == "-":
            _to_stdout(client, name, revision)
            return
        dest = output or _unused(client, name, revision)
        client.download_function(name, dest, revision)
    print_json({"path": str(dest)}) if target.json else click.echo(dest)
    target.say(f"{size(dest.stat().st_size)} written")


def _unused(client: Client, name: str, revision: int | None) -> Path:
    """Return a file named for the function; one that is there is not overwritten unasked."""
    package: Any = client.get_function(name, revision).get("package") or {}
    suffixes = (".tar.gz", ".tgz", ".tar", ".zip")
    original = str(package.get("originalname", ""))
    suffix = next((one for one in suffixes if original.endswith(one)), "")
    dest = Path(name + suffix)
    if dest.exists():
        raise click.UsageError(f"{dest} is there already; say -o {dest} to overwrite it")
    return dest


def _to_stdout(client: Client, name: str, revision: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="skep-") as folder:
        path = client.download_function(name, Path(folder) / "package", revision)
        sys.stdout.buffer.write(path.read_bytes())
